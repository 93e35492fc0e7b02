#!/bin/sh
# Makes each password that isn't there yet, and puts it where it is needed: a folder in /for is what one role sees.
set -eu
umask 022 # a folder is a volume: who has it may read it, nobody else can

password() { # password NAME
  if [ ! -s "/secrets/$1" ]; then
    head -c 32 /dev/urandom | sha256sum | cut -c 1-48 >"/secrets/$1.new"
    mv "/secrets/$1.new" "/secrets/$1"
  fi
  cat "/secrets/$1"
}

put() { # put WHERE TEXT
  printf '%s\n' "$2" >"/for/$1.new"
  mv "/for/$1.new" "/for/$1"
}

digest() { # digest TEXT
  printf %s "$1" | sha256sum | cut -c 1-64
}

api=$(password api)
workers=$(password workers)
put api/cqrs_redis_url "redis://api:$api@redis:6379/0"
put workers/cqrs_redis_url "redis://workers:$workers@redis:6379/0"
put redis/users.acl "$(sed -e '/^#/d' -e "s/@api@/$(digest "$api")/" -e "s/@workers@/$(digest "$workers")/" /users.acl)"

for store in inbox event_store read_model; do
  for role in api workers; do
    if [ -d /for/postgres ]; then
      put "$role/cqrs_${store}_url" "postgresql+psycopg://cqrs:$(password postgres)@postgres/cqrs"
    else
      rm -f "/for/$role/cqrs_${store}_url"
    fi
  done
done
[ ! -d /for/postgres ] || put postgres/password "$(password postgres)"
sync
