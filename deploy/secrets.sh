#!/bin/sh
# Makes each password and key that isn't there yet, and puts it where it is needed: a folder in /for is what one role sees.
set -eu
umask 022 # each folder is a volume of its own: who has it may read it, and nobody else can

digest() { # digest PASSWORD
  printf %s "$1" | sha256sum | cut -c 1-64
}

random() { # random DIGITS: as many hexadecimal ones, 64 at most
  head -c 32 /dev/urandom | sha256sum | cut -c "1-$1"
}

new_password() {
  random 48
}

new_key() { # of the form that shared/access/keys.py describes
  text=cqrs_$(random 8)_$(random 64)
  echo "$text$(digest "$text" | cut -c 1-8)"
}

new_master_key() { # of the form that CQRS_MASTER_KEY has
  random 64
}

secret() { # secret NAME MAKER
  if [ ! -s "/secrets/$1" ]; then
    if ! "$2" >"/secrets/$1.new"; then
      echo "secrets: there is no file $1, and none can be made: put one beside the others" >&2
      exit 1
    fi
    mv "/secrets/$1.new" "/secrets/$1"
  fi
  cat "/secrets/$1"
}

password() { # password NAME
  secret "$1" new_password
  if ! grep -qx '[A-Za-z0-9._~-]*' "/secrets/$1"; then
    echo "secrets: the password for $1 may have letters, digits and ._~- only: it becomes part of a URL" >&2
    exit 1
  fi
}

put() { # put TEXT WHERE
  printf '%s\n' "$1" >"/for/$2.new"
  mv "/for/$2.new" "/for/$2"
}

put_redis() { # put_redis USER PASSWORD ROLE...: of these, those that there are
  login=$1:$2
  shift 2
  for role in "$@"; do
    if [ -d "/for/$role" ]; then put "redis://$login@redis:6379/0" "$role/cqrs_redis_url"; fi
  done
}

put_stores() { # put_stores ROLE [USER PASSWORD]
  for store in inbox event_store read_model subjects; do
    database=cqrs
    if [ "$store" = subjects ]; then database=cqrs_subjects; fi # people's keys are in no dump of the rest
    if [ $# -eq 3 ]; then
      put "postgresql+psycopg://$2:$3@postgres/$database" "$1/cqrs_${store}_url"
    else
      rm -f "/for/$1/cqrs_${store}_url" # of a time with PostgreSQL
    fi
  done
}

api=$(password api)
workers=$(password workers)
put_redis api "$api" api
put_redis workers "$workers" workers command-worker projection-worker owner
put "$(sed -e '/^#/d' -e "s/@api@/$(digest "$api")/" -e "s/@workers@/$(digest "$workers")/" /users.acl)" redis/users.acl

master=$(secret master new_master_key)
for role in api workers command-worker projection-worker owner; do
  if [ -d "/for/$role" ]; then put "$master" "$role/cqrs_master_key"; fi
done

operator=$(secret operator new_key)
put "$operator" owner/cqrs_operator_key
if [ -d /for/prometheus ]; then
  prometheus=$(secret prometheus new_key)
  put "$prometheus" owner/cqrs_prometheus_key
  put "$prometheus" prometheus/key
fi

put_stores workers # all of them where PostgreSQL isn't used: they need no URL of a store
if [ -d /for/postgres ]; then
  command=$(password command-worker)
  projection=$(password projection-worker)
  postgres=$(password postgres)
  put "$postgres" postgres/password
  put "$postgres" postgres-users/cqrs
  put "$api" postgres-users/api
  put "$command" postgres-users/command-worker
  put "$projection" postgres-users/projection-worker
  put_stores api cqrs_api "$api"
  put_stores command-worker cqrs_command_worker "$command"
  put_stores projection-worker cqrs_projection_worker "$projection"
  put_stores owner cqrs "$postgres"
else
  put_stores api
  put_stores owner
fi
sync
