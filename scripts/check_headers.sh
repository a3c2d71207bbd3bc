#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: check_headers.sh - compiles every header alone: public ones as C17 and as C++ by gcc
# and clang, without our flags; the others as C17, those of the CUDA backend where there is
# CUDA's own.  Every source names its licence.
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
nvcc=$(PATH=$PATH:/usr/local/cuda/bin command -v nvcc || true)
cuda=(-isystem "$(dirname "$(dirname "$(realpath "${nvcc:-/}")")")/include")
without=(! -name '')
echo '#include <cuda.h>' | gcc "${cuda[@]}" -fsyntax-only -x c - 2>/dev/null ||
    without=(! -path 'src/model/cuda/*')
while read -r header; do
    check gcc -std=gnu17 -D_GNU_SOURCE "${cuda[@]}" -x c "$header"
    n=$((n + 1))
done < <(find src -name '*.h' ! -name '*_body.h' ! -name '*_impl.h' ! -name 'simd_*' \
    ! -name 'transpose.h' ! -name '*_test.h' "${without[@]}")
while read -r source; do
    head -3 "$source" | grep -q 'SPDX-License-Identifier: Apache-2.0' ||
        { echo "$source names no licence" && faults=$((faults + 1)); }
done < <(find . \( -name build -o -name '.?*' \) -prune -o -type f \( -name '*.[ch]' -o -name '*.cu' \
    -o -name '*.py' -o -name '*.sh' -o -name CMakeLists.txt -o -name Makefile \) -print)
echo "headers: $n alone, $faults faults"
[ $faults -eq 0 ]
