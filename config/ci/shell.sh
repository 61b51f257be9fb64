#!/bin/sh
# A CI job in plain shell: builds the Dockerfile here from exactly what images.lock names.
#
# It ends with 3 where a tag is not what the lock says any more, with 6 where something was wanted
# that is not in the lock, and otherwise as the build does.
set -eu

immutag lock --check
immutag serve --detach --wait --table --ledger memory --lock images.lock --locked
trap 'immutag stop --table' EXIT
immutag setup podman --write >/dev/null # Buildah reads the same file

result=0
# Always asked for: what Buildah has from before may be anything.
buildah build --pull=always --tag app . || result=$?
immutag report --format markdown --output report.md || result=$?
cat report.md
exit "$result"
