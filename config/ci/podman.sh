#!/bin/sh
# A CI job with Podman: shell.sh has it with Buildah, and says how it ends.
set -eu

immutag lock --check
immutag serve --detach --wait --table --ledger memory --lock images.lock --locked
trap 'immutag stop --table' EXIT
immutag setup podman --write >/dev/null

result=0
podman build --pull=always --tag app . || result=$?
immutag report --format markdown || result=$?
exit "$result"
