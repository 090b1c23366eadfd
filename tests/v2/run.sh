#!/bin/sh
# The tests that need control groups of version 2, on a kernel of their own: Debian's, in qemu, without
# KVM, without rights, and without installing anything. What is downloaded (45 MB) stays in .cache/v2.
#   run.sh         get the packages and run the tests; ends as the tests do
#   run.sh fetch   only get the packages; ends with 77, and says why, when they cannot be had here
#   run.sh --systemd   the tests that need a real systemd as the guest's first process (25 MB more)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
cache=${XDG_CACHE_HOME:+$XDG_CACHE_HOME/penstock}
cache=${cache:-$top/.cache}/v2

unavailable() {
    echo "control groups v2 are not tested: $*" >&2
    exit 77
}

packages() {
    # What is not installed already; a simulation needs no rights and no lock.
    apt-get --simulate --quiet=2 --no-install-recommends install qemu-system-x86 busybox-static e2fsprogs |
        awk '/^Inst/ { print $2 }'
    apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image/ { print $2 }'
}

fetch() {
    [ ! -e "$cache/complete" ] || return 0
    command -v apt-get >/dev/null || unavailable "the packages come by apt-get, which is not here"
    [ "$(dpkg --print-architecture)" = amd64 ] || unavailable "the kernel is for amd64"
    if ! apt-cache show linux-image-cloud-amd64 >/dev/null 2>&1; then
        if [ "$(id -u)" = 0 ]; then apt-get update -qq; else sudo -n apt-get update -qq; fi >/dev/null 2>&1 || true
    fi
    names=$(packages 2>/dev/null) || true
    case "$names" in
    *linux-image*) ;;
    *) unavailable "apt-get knows no linux-image-cloud-amd64, or no qemu-system-x86 (apt-get update?)" ;;
    esac
    rm -rf "$cache"
    mkdir -p "$cache/packages" "$cache/root"
    # shellcheck disable=SC2086 # one argument a name
    (cd "$cache/packages" && apt-get -qq download $names) >"$cache/fetch.log" 2>&1 ||
        unavailable "$(grep '^E:' "$cache/fetch.log" | head -n 1)"
    for package in "$cache"/packages/*.deb; do
        dpkg --extract "$package" "$cache/root"
    done
    rm -r "$cache/packages"
    touch "$cache/complete"
}

systemd_packages() {
    # With all that they depend on, as if nothing were installed; what only their scripts need is left out.
    apt-get --simulate --quiet=2 --no-install-recommends -o Dir::State::status=/dev/null install \
        systemd systemd-sysv dbus-user-session libpam-systemd login bash dash coreutils util-linux base-files |
        awk '/^Inst/ { print $2 }' | grep -Ev 'perl|^(adduser|debconf|dmsetup|dpkg|usrmerge|tar)$'
}

fetch_systemd() {
    [ ! -e "$cache/systemd-complete" ] || return 0
    names=$(systemd_packages 2>/dev/null) || true
    case "$names" in
    *libpam-systemd*) ;;
    *) unavailable "apt-get knows no libpam-systemd with what it needs (apt-get update?)" ;;
    esac
    rm -rf "$cache/systemd" "$cache/packages"
    mkdir -p "$cache/systemd" "$cache/packages"
    # shellcheck disable=SC2086 # one argument a name
    (cd "$cache/packages" && apt-get -qq download $names) >"$cache/fetch.log" 2>&1 ||
        unavailable "$(grep '^E:' "$cache/fetch.log" | head -n 1)"
    for package in "$cache"/packages/*.deb; do
        dpkg --extract "$package" "$cache/systemd"
    done
    rm -r "$cache/packages"
    touch "$cache/systemd-complete"
}

fetch
[ "${1:-}" != --systemd ] || fetch_systemd
[ "${1:-}" = fetch ] || exec "${PYTHON:-$top/.venv/bin/python}" "$here/boot.py" "$cache" "$@"
