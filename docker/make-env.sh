#!/bin/sh
# Writes .env beside this file from .env.example, with a fresh secret in place of each `generate`. Needs nothing but a shell.
# A .env that is there is kept: its passwords are the ones that the stores were set up with.
set -eu
cd "$(dirname "$0")"
umask 077

[ ! -e .env ] || { echo ".env is there already; nothing was changed" >&2; exit 1; }

# 24 random bytes in hexadecimal: no character that an address or a configuration file reads otherwise.
secret() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

while IFS= read -r line || [ -n "$line" ]; do
    case $line in
        [A-Z]*=generate) line="${line%generate}$(secret)" ;;
    esac
    printf '%s\n' "$line"
done < .env.example > .env.new
mv .env.new .env
echo "wrote $(pwd)/.env; clients send the APEX_HTTP_TOKEN in it"
