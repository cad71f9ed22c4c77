#!/bin/sh
# Run once, by the image's entry point, when the data folder is empty: a role and its databases for each of the two users of
# PostgreSQL. Neither may do more than it needs; what the administrator's password opens, nothing else here knows.
set -eu

for name in RECORD_DB_PASSWORD TEMPORAL_DB_PASSWORD; do
    eval "value=\${$name:-}"
    [ -n "$value" ] || { echo "$name is not set" >&2; exit 1; }
done

# The passwords are read from the environment by psql itself: they stand in no command line.
psql --no-psqlrc --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
\getenv apex_password RECORD_DB_PASSWORD
\getenv temporal_password TEMPORAL_DB_PASSWORD
CREATE ROLE apex LOGIN PASSWORD :'apex_password';
CREATE ROLE temporal LOGIN PASSWORD :'temporal_password';
CREATE DATABASE apex OWNER apex;
CREATE DATABASE temporal OWNER temporal;
CREATE DATABASE temporal_visibility OWNER temporal;
REVOKE ALL ON DATABASE apex, temporal, temporal_visibility, postgres FROM PUBLIC;
SQL
