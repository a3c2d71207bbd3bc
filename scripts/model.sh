#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: model.sh [BUILD_DIR] - checks models/ring.pml and models/board.pml: they must pass
# with all memory orders and fail without any one of them.  Needs spin and a C compiler; 77
# where spin is missing.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
build=${1:-$root/build/model}
command -v spin >/dev/null || { echo "spin is not installed: apt-get install spin"; exit 77; }
mkdir -p "$build"
cd "$build"

# check NAME MODEL -D...: prints what pan found; 0: no error, 1: an error, 2: the run was cut.
check() {
    local name=$1 model=$2
    shift 2
    mkdir -p "$name"
    (
        cd "$name"
        spin -a "$@" "$root/models/$model.pml" >spin.log 2>&1 || { cat spin.log; exit 2; }
        ${CC:-cc} -O2 -w -DSAFETY -DNOFAIR -DMEMLIM=2048 -o pan pan.c || exit 2
        ./pan -m200000 >pan.log 2>&1
        grep -q "max search depth too small\|reached max mem\|out of memory" pan.log && exit 2
        grep -q "errors: 0" pan.log && exit 0
        grep -q "errors: [1-9]" pan.log && exit 1
        exit 2
    )
}

failed=0
# passes NAME MODEL -D...: with all orders.
passes() {
    local result=0
    check "$@" || result=$?
    if [ $result -eq 0 ]; then
        echo "ok    $1: no error in $(awk '/states, stored/ { print $1 }' "$1/pan.log") states"
    else
        echo "FAIL  $1: result $result, see $build/$1/pan.log"
        failed=1
    fi
}

# fails LETTER MODEL -D...: without that order.
fails() {
    local letter=$1 model=$2 result=0
    shift 2
    check "no-$letter" "$model" "$@" || result=$?
    if [ $result -eq 1 ]; then
        echo "ok    without $letter it fails: $(sed -n 's/^pan:1: \(.*\) (at depth.*/\1/p' \
            "no-$letter/pan.log")"
    else
        echo "FAIL  without $letter: an error was expected (result $result)"
        failed=1
    fi
}

for slots in 1 2; do
    passes "ring-$slots" ring "-DSLOTS=$slots" -DMESSAGES=4
    passes "pipe-$slots" ring "-DSLOTS=$slots" -DMESSAGES=4 -DBELL
done
passes board board
for order in A B C D E1 E2 F1 F2; do
    fails $order ring -DSLOTS=1 -DMESSAGES=4 -DNO_$order
done
for order in a b c d e1 e2 f1 f2; do
    fails $order ring -DSLOTS=1 -DMESSAGES=4 -DBELL "-DNO_${order^^}"
done
for order in t u; do
    fails $order board -DNO_$order
done
exit $failed
