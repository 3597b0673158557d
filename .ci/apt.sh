# Sourced by the scripts beside it: installs Debian packages without starting any service.
# shellcheck shell=bash

# As a user, /usr/sbin may be missing from PATH; the servers live there.
PATH="$PATH:/usr/sbin:/sbin"

have() { command -v "$1" >/dev/null 2>&1; }

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

# Who may install. Ends the script when nobody may; the arguments are what is missing.
apt_may() {
    have apt-get || fail "missing: $* (names of Debian packages), and there is no apt-get"
    if [ "$(id -u)" -eq 0 ]; then
        as_root=()
    elif have sudo; then
        as_root=(sudo)
    else
        fail "missing packages, and neither root nor sudo to install them. As root:" \
            "apt-get update && apt-get install --no-install-recommends $*"
    fi
}

apt_update() { "${as_root[@]}" apt-get update -q; }

# A package must not start its service: tests and benchmarks start their own servers, and one that
# appears by itself would be a surprise. An existing policy is the administrator's. In a shell of its
# own, whose trap the caller's does not replace: ours must not stay behind.
apt_install() (
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap '"${as_root[@]}" rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null &&
            "${as_root[@]}" chmod 755 "$policy" || return
    fi
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "$@"
)

# Where the administrator's policy allowed a service to start, we brought it, so we stop it.
# $1: the unit; $2: what people call it.
apt_stop() {
    if [ -d /run/systemd/system ]; then
        "${as_root[@]}" systemctl stop "$1.service" || true
        echo "$(basename "$0"): $2 is installed but not started; 'systemctl disable $1' keeps it off"
    elif [ -x "/etc/init.d/$1" ] && "/etc/init.d/$1" status >/dev/null 2>&1; then
        "${as_root[@]}" "/etc/init.d/$1" stop
    fi
}
