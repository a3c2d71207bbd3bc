#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: test_ray.sh BUILD_DIR [PYTEST_ARGUMENT]... - the tests on real Ray, which is installed for
# them; several nodes are network namespaces, so it wants to be root.  All of them take less than 15
# minutes, or it fails.
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
if [ "$SECONDS" -ge 900 ]; then
    echo "test_ray: 15 minutes are its limit; the slowest are named above" >&2
    exit 1
fi
