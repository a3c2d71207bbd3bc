#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: check_hardening.sh - the command and the library that COHORT_BUILD_DIR has are
# position independent, bound at once with tables that are read-only then, have no
# executable stack, stack protectors, and checked string functions.  77 without readelf.
set -euo pipefail

build=${COHORT_BUILD_DIR:-build/release}
command -v readelf >/dev/null || exit 77
faults=0

# want FILE WHAT OPTION PATTERN - readelf's answer has the pattern
want() {
    if ! readelf -W "$3" "$1" | grep -E "$4" >/dev/null; then
        echo "$1 lacks $2" >&2
        faults=1
    fi
}

check() {
    want "$1" "position independence" -h 'Type: +DYN'
    want "$1" "RELRO" -l 'GNU_RELRO'
    want "$1" "binding at once (-z now)" -d 'BIND_NOW|FLAGS_1.*NOW'
    want "$1" "a stack that is not executable" -l 'GNU_STACK .* RW +0x'
    want "$1" "stack protectors" --dyn-syms '__stack_chk_fail'
    want "$1" "checked functions (_FORTIFY_SOURCE)" --dyn-syms '__(memcpy|snprintf|vsnprintf|read)_chk'
}

[ -x "$build/cohort" ] || { echo "$build/cohort is not built" >&2; exit 1; }
check "$build/cohort"
check "$build/libcohort.so"
want "$build/cohort" "PIE" -d 'FLAGS_1.*PIE'
exit $faults
