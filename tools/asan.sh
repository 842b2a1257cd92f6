#!/bin/sh
# Runs a module (pytest, or the fuzz) against an engine built with AddressSanitizer and UBSan, in a copy under build/.
#
#   tools/asan.sh PYTHON MODULE [ARGUMENTS]
#
# First it checks that a fault would be detected: a sanitizer that was not loaded finds nothing, silently.
set -eu

python=$1
module=$2
shift 2
case "$python" in */*) python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python") ;; esac
copy=build/asan-$module # two modules may run at a time

rm -rf "$copy"
mkdir -p "$copy"
cp -R mpcache tests docs setup.py setup.cfg pyproject.toml README.rst CHANGES.rst LICENSE "$copy"
find "$copy" -name '*.so' -delete
cd "$copy"
MPCACHE_WERROR=1 MPCACHE_SANITIZE=address,undefined "$python" setup.py --quiet build_ext --inplace

# Each process writes findings to a file of its own: pytest captures what a dying process prints, or it is lost.
# UBSan's runtime ignores the path in its options if ASan's is loaded before it, so each process sets the path.
FINDING=$PWD/finding
cat >sitecustomize.py <<'EOF'
import ctypes, os
ctypes.CDLL("libubsan.so.1").__sanitizer_set_report_path(os.environ["FINDING"].encode())
EOF

LD_PRELOAD=$(cc -print-file-name=libasan.so)
PYTHONPATH=$PWD          # for child processes too, wherever they start
PYTHONMALLOC=malloc      # so that ASan detects an overrun of a bytes object
ASAN_OPTIONS=detect_leaks=0:log_path=$FINDING # the interpreter keeps memory until it exits, on purpose
UBSAN_OPTIONS=print_stacktrace=1
export FINDING LD_PRELOAD PYTHONPATH PYTHONMALLOC ASAN_OPTIONS UBSAN_OPTIONS

engine=$("$python" -c 'import mpcache.shm._engine as engine; print(engine.__file__)')
case "$engine" in
"$PWD"/*) ;;
*) echo "asan: the tests would run $engine, not the build in $PWD" >&2 && exit 1 ;;
esac
for sanitizer in __asan_report_load __ubsan_handle; do
    if ! LD_PRELOAD='' nm -D "$engine" | grep -q $sanitizer; then
        echo "asan: $engine has no $sanitizer: it is not instrumented" >&2 && exit 1
    fi
done
overrun='import ctypes; b = ctypes.create_string_buffer(64); ctypes.memset(ctypes.addressof(b), 0, 4096)'
if "$python" -c "$overrun" 2>/dev/null || ! ls "$FINDING".* >/dev/null; then
    echo "asan: an overrun went unnoticed; is $LD_PRELOAD the right runtime?" >&2 && exit 1
fi
rm "$FINDING".*

status=0
"$python" -m "$module" "$@" || status=$?
unset LD_PRELOAD
if ls "$FINDING".* >/dev/null 2>&1; then
    cat "$FINDING".* >&2
    echo "asan: the findings above" >&2
    status=1
fi
exit $status
