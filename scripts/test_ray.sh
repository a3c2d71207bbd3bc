#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: test_ray.sh BUILD_DIR [PYTEST_ARGUMENT]... - the tests on real Ray, which is installed for
# them; several nodes are network namespaces, so it wants to be root.  All of them take less than 15
# minutes on a machine of their own, or it says so; and less than 25, or it fails: of one that others
# use, where tests that were late run again, the time alone says too little.  COHORT_PATIENCE
# multiplies both.
set -euo pipefail

build=$(realpath "$1")
shift
root=$(realpath "$(dirname "$0")/..")
"$root/scripts/setup.sh" iproute2 util-linux
python=$("$root/scripts/test_venv.sh" ray)
results=$build/Testing/ray.xml
mkdir -p "$build/Testing"
(cd "$root/python" && "$python" -m mypy --strict --no-incremental --cache-dir=/dev/null cohort_ray)
(cd "$root/tests/ray" && COHORT_BUILD_DIR=$build PYTHONDONTWRITEBYTECODE=1 "$python" -m pytest \
    -q -p no:cacheprovider --durations=5 --junit-xml="$results" "$@")
[ $# -eq 0 ] || exit 0
"$root/scripts/check_ray_tests.py" "$build" "$results"
echo "test_ray: all of it took $SECONDS s"
patience=${COHORT_PATIENCE:-1}
longer_than() { awk "BEGIN { exit !($SECONDS >= $1 * 60 * $patience) }"; }
if longer_than 15; then
    echo "test_ray: 15 minutes are its limit; the slowest are named above" >&2
fi
if longer_than 25; then
    exit 1
fi
