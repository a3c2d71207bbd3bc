#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Names the machine that figures were taken on, by what matters for them: one line.
isa=$(grep -m1 '^flags' /proc/cpuinfo | tr ' ' '\n' |
    grep -xE 'avx2|avx512f|avx512_bf16|amx_bf16' | paste -sd+)
cpuinfo() { grep -m1 "^$1" /proc/cpuinfo | cut -d: -f2 | xargs; }
memory=$(awk '/MemTotal/ {printf "%.0f", $2 / 1048576}' /proc/meminfo)
echo "$(nproc) x $(cpuinfo 'model name') (family $(cpuinfo 'cpu family')," \
    "model $(cpuinfo model), $isa), $memory GiB"
