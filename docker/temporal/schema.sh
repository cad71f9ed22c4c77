#!/bin/sh
# Brings Temporal's two schemas to the version of this image. Can be run again at any time: what is there already stays.
set -eu

: "${SQL_PASSWORD:?}"
export SQL_PASSWORD

schema() {
    database=$1
    folder=$2
    run() {
        temporal-sql-tool --plugin postgres12 --ep postgres -p 5432 -u temporal --db "$database" "$@"
    }
    run setup-schema -v 0.0
    run update-schema -d "/etc/temporal/schema/postgresql/v12/$folder/versioned"
}

schema temporal temporal
schema temporal_visibility visibility
