#!/bin/sh
# Makes the namespace `default` once the server is up. Can be run again: one that is there stays as it is.
set -eu

attempts=30
until temporal operator cluster health; do
    attempts=$((attempts - 1))
    [ "$attempts" -gt 0 ] || { echo "the Temporal server does not answer" >&2; exit 1; }
    sleep 2
done

# PostgreSQL keeps what became of an ingestion; Temporal's history is for people who look into a problem.
temporal operator namespace describe --namespace default >/dev/null 2>&1 ||
    temporal operator namespace create --namespace default --retention 72h
