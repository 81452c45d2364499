#!/usr/bin/env bash
# Runs cyconv under a sanitizer, without suppressions, or with other vectors, in a copy of this tree:
#
#   tests/sanitize.sh address [PYTEST ARGUMENTS]   the test suite under AddressSanitizer and UndefinedBehaviorSanitizer
#   tests/sanitize.sh fuzz [SECONDS]               under the same, the checks of `python -m cyconv selftest` that fuzz
#   tests/sanitize.sh thread                       ThreadSanitizer on a build without OpenMP, whose runtime it does
#                                                  not know; Python threads share arrays and estimators
#   tests/sanitize.sh valgrind                     uninitialised reads in the kernels, a small subset
#   tests/sanitize.sh wide [PYTEST ARGUMENTS]      vectors as long as those of AVX-512, made of shorter ones: the suite
#                                                  and the published hash, where no processor has AVX-512
#
# The kernels are built for AVX2, or as CYCONV_BUILD says (see setup.py). A folder SANITIZED keeps the copy and its
# build for the next run of the same kind, `address` and `fuzz` being one. Needs GCC, the test extra, and valgrind where
# it is called. Results are in docs/campaigns.md.
set -euo pipefail

kind=${1:?address, fuzz, thread, valgrind or wide}
shift
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python}
if [ "${SANITIZED:-}" ]; then
    mkdir -p "$SANITIZED" && work=$(cd "$SANITIZED" && pwd)
else
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
fi

case $kind in     # flags after those of setup.py win; Python's own -fwrapv would hide overflows
    address | fuzz)      # what the two checks left out find, AddressSanitizer finds too, and compiling takes half as long;
                         # expensive-optimizations: with fused multiplications, as in the published hash
        flags="-O1 -fexpensive-optimizations -g1 -fno-omit-frame-pointer -fno-wrapv -fsanitize=address,undefined -fno-sanitize=null,object-size" ;;
    thread) flags="-O1 -g1 -fno-openmp -fsanitize=thread" ;;
    valgrind) flags="-O1 -g1" ;;
    wide) flags="-O1 -fexpensive-optimizations -DCYCONV_WIDE" ;;
    *) echo "unknown: $kind" >&2; exit 2 ;;
esac
if [ "$(cat "$work/built" 2>&1)" != "$flags" ]; then
    tar -C "$root" --exclude=./.git --exclude=./build --exclude='*.so' --exclude=__pycache__ -cf - . | tar -C "$work" -xf -
    mkdir -p "$work/bin"
    printf '#!/bin/sh\nexec gcc "$@" %s\n' "$flags" > "$work/bin/cc"
    chmod +x "$work/bin/cc"
    cd "$work"
    CC="$work/bin/cc" CYCONV_BUILD=${CYCONV_BUILD:-cpu|front|avx2_f..} "$python" setup.py -q build_ext --inplace --force \
        > "$work/messages" 2>&1 || { cat "$work/messages"; exit 1; }
    echo "$flags" > "$work/built"
fi
cd "$work"
rm -f undefined* log.*

export PYTHONPATH=$work/src OMP_WAIT_POLICY=passive PYTHONMALLOC=malloc
library() { gcc -print-file-name="$1"; }

address() {     # Undefined behaviour goes to files, for pytest captures what processes of its tests print; a
    # large quarantine of freed memory would pass for growth.
    ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=16 \
        UBSAN_OPTIONS=print_stacktrace=1:log_path=$work/undefined \
        LD_PRELOAD="$(library libasan.so) $(library libubsan.so)" "$python" "$@"
    if compgen -G "$work/undefined*" > /dev/null; then cat "$work"/undefined*; exit 1; fi
}

races() {
    TSAN_OPTIONS=ignore_noninstrumented_modules=1:exitcode=66 LD_PRELOAD=$(library libtsan.so) \
        setarch -R "$python" "$root/tests/races.py" "$@"
}

case $kind in
    address) address -m pytest -n 0 -p no:cacheprovider -q -s --ignore tests/test_packaging.py "$@" ;;
    fuzz) address -m cyconv selftest exact grad arrays guard hostile indices nan models --seconds "${1:-240}" ;;
    thread)
        races disjoint
        if races overlapping 2> "$work/control"; then echo "the planted race was not found" >&2; exit 1; fi
        grep -m 1 "WARNING: ThreadSanitizer: data race" "$work/control"
        ;;
    valgrind)
        interpreter=$("$python" -c 'import sys; print(sys.executable)')
        for check in exact grad; do     # in the process itself, which `python -m cyconv selftest` would start
            valgrind --log-file="$work/log.$check" --error-limit=no "$interpreter" -m cyconv.selftest._run $check 0 0
        done
        # The interpreter and NumPy have reports of their own; ours would have a kernel on top.
        grep -h "ERROR SUMMARY" "$work"/log.*
        if grep -A 3 -h "uninitialised\|Invalid read\|Invalid write" "$work"/log.* | grep -E "(at|by) .*_kernels"; then
            exit 1
        fi
        ;;
    wide)
        "$python" -m cyconv selftest exact hash batch nan
        "$python" -m pytest -p no:cacheprovider -q --ignore tests/test_packaging.py "$@"
        ;;
esac
