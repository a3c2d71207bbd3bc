#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: model.sh [BUILD_DIR] - checks models/ring.pml: it must pass with all memory orders
# and fail without any one of them.  Needs spin and a C compiler; 77 where spin is missing.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
build=${1:-$root/build/model}
command -v spin >/dev/null || { echo "spin is not installed: apt-get install spin"; exit 77; }
mkdir -p "$build"
cd "$build"

# check NAME -D...: prints what pan found; 0: no error, 1: an error, 2: the run was cut.
check() {
    local name=$1
    shift
    mkdir -p "$name"
    (
        cd "$name"
        spin -a "$@" "$root/models/ring.pml" >spin.log 2>&1 || { cat spin.log; exit 2; }
        ${CC:-cc} -O2 -w -DSAFETY -DNOFAIR -DMEMLIM=2048 -o pan pan.c || exit 2
        ./pan -m200000 >pan.log 2>&1
        grep -q "max search depth too small\|reached max mem\|out of memory" pan.log && exit 2
        grep -q "errors: 0" pan.log && exit 0
        grep -q "errors: [1-9]" pan.log && exit 1
        exit 2
    )
}

failed=0
for slots in 1 2; do
    result=0
    check "all-$slots" -DSLOTS=$slots -DMESSAGES=4 || result=$?
    states=$(awk '/states, stored/ { print $1 }' "all-$slots/pan.log" || true)
    if [ $result -eq 0 ]; then
        echo "ok    all orders, $slots slots: no error in $states states"
    else
        echo "FAIL  all orders, $slots slots: result $result, see $build/all-$slots/pan.log"
        failed=1
    fi
done
for order in A B C D E1 E2 F1 F2; do
    result=0
    check "no-$order" -DSLOTS=1 -DMESSAGES=4 -DNO_$order || result=$?
    if [ $result -eq 1 ]; then
        what=$(sed -n 's/^pan:1: \(.*\) (at depth.*/\1/p' "no-$order/pan.log")
        echo "ok    without $order it fails: $what"
    else
        echo "FAIL  without $order: an error was expected (result $result)"
        failed=1
    fi
done
exit $failed
