#!/bin/sh
# Makes each password that isn't there yet, and puts it where it is needed: a folder in /for is what one role sees.
set -eu
umask 022 # each folder is a volume of its own: who has it may read it, and nobody else can

password() { # password NAME
  if [ ! -s "/secrets/$1" ]; then
    head -c 32 /dev/urandom | sha256sum | cut -c 1-48 >"/secrets/$1.new"
    mv "/secrets/$1.new" "/secrets/$1"
  fi
  if ! grep -qx '[A-Za-z0-9._~-]*' "/secrets/$1"; then
    echo "secrets: the password for $1 may have letters, digits and ._~- only: it becomes part of a URL" >&2
    exit 1
  fi
  cat "/secrets/$1"
}

digest() { # digest PASSWORD
  printf %s "$1" | sha256sum | cut -c 1-64
}

put() { # put TEXT WHERE
  printf '%s\n' "$1" >"/for/$2.new"
  mv "/for/$2.new" "/for/$2"
}

api=$(password api)
workers=$(password workers)
put "redis://api:$api@redis:6379/0" api/cqrs_redis_url
put "redis://workers:$workers@redis:6379/0" workers/cqrs_redis_url
put "$(sed -e '/^#/d' -e "s/@api@/$(digest "$api")/" -e "s/@workers@/$(digest "$workers")/" /users.acl)" redis/users.acl

for url in api/cqrs_inbox_url api/cqrs_event_store_url api/cqrs_read_model_url \
           workers/cqrs_inbox_url workers/cqrs_event_store_url workers/cqrs_read_model_url; do
  if [ -d /for/postgres ]; then
    postgres=$(password postgres)
    put "$postgres" postgres/password
    put "postgresql+psycopg://cqrs:$postgres@postgres/cqrs" "$url"
  else
    rm -f "/for/$url" # of a time with PostgreSQL
  fi
done
sync
