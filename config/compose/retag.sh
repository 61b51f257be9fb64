#!/bin/sh
# Shows a conflict: pushes an image, pulls it through immutag, overwrites its tag in the registry,
# pulls again.
#
# REGISTRY, IMMUTAG  where they are;  NAME  how immutag calls the registry;
# FIRST, SECOND      two images, as skopeo names them
set -eu

registry=${REGISTRY:-registry:5000}
immutag=${IMMUTAG:-immutag:5051}
name=${NAME:-registry.local}
first=${FIRST:-docker://docker.io/library/busybox:1.36}
second=${SECOND:-docker://docker.io/library/busybox:1.37}
tag=demo/app:1.0.0

push() {
    skopeo copy --quiet --dest-tls-verify=false "$1" "docker://$registry/$tag"
}

digest_at() {
    skopeo inspect --no-tags --tls-verify=false --format '{{.Digest}}' "docker://$1"
}

push "$first"
before=$(digest_at "$immutag/$name/$tag")
echo "pushed $tag; immutag recorded    $before"

push "$second"
upstream=$(digest_at "$registry/$tag")
echo "overwrote it; the registry has  $upstream"

after=$(digest_at "$immutag/$name/$tag")
echo "immutag serves                  $after"

if [ "$upstream" = "$before" ]; then
    echo "the two images are one: nothing to show" >&2
    exit 2
fi
if [ "$after" != "$before" ]; then
    echo "immutag let the tag move" >&2
    exit 1
fi
echo "held: see 'immutag ledger list' and the alert ImmutagConflictOpen in Prometheus"
