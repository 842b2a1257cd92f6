#!/bin/sh
# Check for the software that make needs; install it (as root on Debian), or print what is missing.
#
#   tools/need.sh build PYTHON     an interpreter that can make a venv, its headers, a C compiler
#   tools/need.sh clients PYTHON   what pylibmc is compiled against, where PyPI has no wheel of it
#   tools/need.sh servers          redis-server and memcached, which the tests start for themselves
#   tools/need.sh proofs           spin, which searches the models in proofs/
#   tools/need.sh browser          chromium-headless-shell, or another Chromium, in which the tests look at pages
set -eu

refuse_old() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' && return
    echo "mpcache needs Python 3.10 or newer, and $1 is not:  make PYTHON=/path/to/python3" >&2
    exit 1
}

compiler_works() {
    include=$("$1" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
    echo '#include <Python.h>' | cc -x c -fsyntax-only -I"$include" - 2>/dev/null
}

build_missing() {
    version=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    "$1" -c 'import ensurepip, venv' 2>/dev/null || echo "python$version-venv"
    compiler_works "$1" || echo "gcc libc6-dev python$version-dev"
}

compiles() {
    echo "#include <$1>" | cc -x c -fsyntax-only - 2>/dev/null
}

# Its wheels are for CPython 3.10 and 3.11 on x86-64 with glibc.
clients_missing() {
    "$1" - <<'EOF' && return
import platform, sys
plain = platform.machine() == "x86_64" and platform.libc_ver()[0] == "glibc"
sys.exit(not (plain and sys.version_info < (3, 12)))
EOF
    compiles libmemcached/memcached.h || echo libmemcached-dev
    compiles zlib.h || echo zlib1g-dev
}

servers_missing() {
    command -v redis-server >/dev/null || echo redis-server
    command -v memcached >/dev/null || echo memcached
}

proofs_missing() {
    command -v spin >/dev/null || echo spin
}

browser_missing() {
    for browser in chromium-headless-shell chromium google-chrome; do
        command -v "$browser" >/dev/null && return
    done
    echo chromium-headless-shell
}

# The packages' own scripts would start daemons; Debian's policy layer lets this function forbid it.
without_daemons() {
    policy=/usr/sbin/policy-rc.d
    if [ -e "$policy" ]; then
        "$@"
        return
    fi
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    "$@"
}

install() {
    echo "installing: $*"
    apt-get update -qq
    without_daemons env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null
}

case "${1:-}" in
build)
    python=${2:-python3}
    refuse_old "$python"
    missing() { build_missing "$python"; }
    ;;
clients)
    python=${2:-python3}
    missing() { clients_missing "$python"; }
    ;;
servers)
    missing() { servers_missing; }
    ;;
proofs)
    missing() { proofs_missing; }
    ;;
browser)
    missing() { browser_missing; }
    ;;
*) sed -n '2,8p' "$0" && exit 2 ;;
esac

wanted=$(missing | tr '\n' ' ')
[ -n "$wanted" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    # shellcheck disable=SC2086  # one word a package
    install $wanted
    wanted=$(missing | tr '\n' ' ')
    [ -n "$wanted" ] || exit 0
fi
echo "This machine lacks what these packages of Debian and Ubuntu hold: $wanted" >&2
echo "Install them and try again:  sudo apt-get install $wanted" >&2
exit 1
