#!/usr/bin/env bash
# Installs from Debian what tests, lint or bench need and what is missing.
#
#   tests/setup.sh PROGRAM…
#
# With root (or passwordless sudo) and apt-get, what is missing gets installed, and no service of
# it is started. Otherwise it is named, and its tests are skipped; with CI=true that is an error.
set -euo pipefail

package_of() {
    case "$1" in
        buildah | curl | docker-registry | docker-compose | faketime | nginx | podman | \
            shellcheck | skopeo | strace | wrk)
            echo "$1" ;;
        containerd | ctr) echo containerd ;;
        docker | dockerd) echo docker.io ;;
        ip) echo iproute2 ;;
        jsonschema) echo python3-jsonschema ;;
        mount) echo mount ;;
        setpriv | unshare) echo util-linux ;;
        mkfs.ext4) echo e2fsprogs ;;
        nft) echo nftables ;;
        promtool) echo prometheus ;;
        xmllint) echo libxml2-utils ;;
        *) echo "setup: no package is known for '$1'" >&2 && exit 2 ;;
    esac
}

missing_of() {
    local program
    for program in "$@"; do
        PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null || echo "$program"
    done
}

# Packages such as docker-registry, prometheus and nginx start a service when they are installed,
# which would hold the ports that people and tests use. policy-rc.d forbids that while we install;
# where systemd runs, the new services are disabled, too.
install_quietly() {
    local policy=/usr/sbin/policy-rc.d ours=''
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
        "${as_root[@]}" chmod 755 "$policy"
        ours=$policy
    fi
    local result=0
    {
        "${as_root[@]}" apt-get -qq update &&
            "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
                apt-get -qq -y --no-install-recommends install "$@"
    } </dev/null >&2 || result=$?
    if [ -n "$ours" ]; then
        "${as_root[@]}" rm -f "$ours"
    fi
    if [ -d /run/systemd/system ]; then
        for service in "$@"; do
            "${as_root[@]}" systemctl disable --now "$service" >/dev/null 2>&1 || true
        done
    fi
    return "$result"
}

as_root=()
may_install() {
    command -v apt-get >/dev/null || return 1
    [ "$(id -u)" = 0 ] && as_root=(env) && return 0
    command -v sudo >/dev/null && sudo -n true 2>/dev/null && as_root=(sudo -n)
}

mapfile -t missing < <(missing_of "$@")
if [ "${#missing[@]}" -gt 0 ] && may_install; then
    packages=()
    for program in "${missing[@]}"; do
        packages+=("$(package_of "$program")")
    done
    echo "setup: installing ${packages[*]}"
    install_quietly "${packages[@]}" || echo "setup: apt-get failed" >&2
    mapfile -t missing < <(missing_of "$@")
fi

if [ "${#missing[@]}" -gt 0 ]; then
    if [ "${CI:-}" = true ]; then
        echo "setup: CI must have: ${missing[*]}" >&2
        exit 1
    fi
    echo "setup: SKIPPED is what needs: ${missing[*]}"
fi
