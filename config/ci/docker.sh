#!/bin/sh
# A CI job with Docker, whose daemon has "registry-mirrors": ["http://127.0.0.1:5050"] in its
# /etc/docker/daemon.json; so `immutag setup docker --write` does it, once, on the runner.
#
# A mirror is for docker.io only, and while immutag does not run Docker asks Docker Hub itself: a
# Dockerfile whose FROM lines carry digests (`immutag export dockerfile`) does not depend on that.
set -eu

immutag lock --check
immutag serve --detach --wait --table --ledger memory --lock images.lock --locked
trap 'immutag stop --table' EXIT

result=0
docker build --pull --tag app . || result=$?
immutag report --format markdown || result=$?
exit "$result"
