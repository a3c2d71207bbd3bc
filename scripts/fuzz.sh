#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: fuzz.sh BUILD_DIR SECONDS - runs every fuzz target on its corpus for so long.
# New inputs stay in the build folder; a crash is kept there too and ends the run.
set -euo pipefail

build=$1 seconds=$2
found=0
for source in tests/fuzz/*_fuzz.c; do
    [ -e "$source" ] || break
    found=1
    name=$(basename "$source" .c)
    mkdir -p "$build/corpus/$name"
    seeds=()
    [ -d "tests/fuzz/corpus/${name%_fuzz}" ] && seeds=("tests/fuzz/corpus/${name%_fuzz}")
    echo "fuzzing $name for $seconds s"
    "$build/$name" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 \
        -print_final_stats=0 -verbosity=0 -artifact_prefix="$build/$name-" \
        "$build/corpus/$name" "${seeds[@]}"
done
[ $found -eq 1 ] || echo "no fuzz targets"
