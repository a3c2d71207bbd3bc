#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: check_headers.sh - compiles every header alone: public ones as C17 and as C++ by gcc
# and clang, without our flags; the others as C17.  Every source names its licence.
set -euo pipefail

faults=0
check() { # compiler and flags..., header
    local header=${*: -1}
    "${@:1:$#-1}" -Wall -Wextra -Wpedantic -Werror -fsyntax-only -Iinclude -Isrc \
        "$header" || { echo "$header does not stand alone ($1)" && faults=$((faults + 1)); }
}
n=0
for header in include/cohort/*.h; do
    check gcc -std=c17 -x c "$header"
    check g++ -std=c++17 -x c++ "$header"
    check clang -std=c17 -x c "$header"
    n=$((n + 1))
done
while read -r header; do
    check gcc -std=gnu17 -D_GNU_SOURCE -x c "$header"
    n=$((n + 1))
done < <(find src -name '*.h' ! -name '*_body.h' ! -name '*_impl.h' ! -name 'simd_*' \
    ! -name 'transpose.h' ! -name '*_test.h')
while read -r source; do
    head -3 "$source" | grep -q 'SPDX-License-Identifier: Apache-2.0' ||
        { echo "$source names no licence" && faults=$((faults + 1)); }
done < <(git ls-files '*.[ch]' '*.cu' '*.py' '*.sh' 'CMakeLists.txt' 'Makefile')
echo "headers: $n alone, $faults faults"
[ $faults -eq 0 ]
