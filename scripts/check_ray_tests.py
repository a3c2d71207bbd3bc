#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails where a case of vLLM's tests of its Ray executor, or a bug that it had, has no test of
ours that ran and passed: tests/ray/coverage.txt says which test that is, and the list below which
rows it must have.

usage: check_ray_tests.py BUILD_DIR JUNIT_XML
"""
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
COVERAGE = ROOT / "tests/ray/coverage.txt"
# The tests of vLLM's Ray executor, and the bugs that it had (docs/requirements.md).
CASES = """
    test_dist_init_store_owns_port test_colocated_dist_init_stores_hold_distinct_ports
    test_ray_v2_executor test_ray_v2_executor_pg test_ray_v2_executor_failure_callback
    test_ray_v2_executor_collective_rpc test_ray_v2_executor_driver_node_rank_0
    test_ray_v2_executor_worker_death test_ray_v2_executor_shutdown
    test_ray_v2_run_refs_stored_for_monitoring test_ray_v2_single_node_generation
    test_ray_v2_single_node_generation_with_pg test_ray_v2_bundle_indices_env
    test_ray_v2_invalid_bundle_indices
    test_multi_replicas test_multi_replicas_with_bundle_indices
    test_ray_executor test_ray_executor_worker_death test_ray_executor_shutdown
    test_env_var_and_runtime_env_propagation test_mq_tcp_multinode test_get_bundles_sorted_by_node
""".split()
BUGS = [f"R{n}" for n in [*range(1, 13), *range(14, 20), "16b", 21]]


def read_rows():
    """Case or bug -> the tests that cover it; and what is wrong with the file."""
    rows = {}
    faults = []
    for line in COVERAGE.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if not words or line.startswith("#"):
            continue
        if words[0] in rows:
            faults.append(f"{words[0]} has two rows")
        if len(words) < 2:
            faults.append(f"{words[0]} names no test")
        rows[words[0]] = words[1:]
    faults += [f"{name} has no row" for name in [*CASES, *BUGS] if name not in rows]
    faults += [f"{name} is no case or bug that is known" for name in rows
               if name not in CASES and name not in BUGS]
    return rows, faults


def ray_results(path):
    """Name without parameters -> has every case of it passed?  A skipped one has not."""
    results = {}
    for case in ElementTree.parse(path).iter("testcase"):
        name = case.get("name").split("[")[0]
        passed = not any(case.find(kind) is not None for kind in ("failure", "error", "skipped"))
        results[name] = passed and results.get(name, True)
    return results


def c_results(build, programs):
    """The same of cmocka programs, which are run for it."""
    results = {}
    for program in programs:
        done = subprocess.run([build / program], capture_output=True, text=True, check=False)
        for word, name in re.findall(r"^\[ +(OK|FAILED|SKIPPED) +\] (\w+)", done.stdout + done.stderr,
                                     re.M):
            results[f"{program}:{name}"] = word == "OK" and results.get(f"{program}:{name}", True)
    return results


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    rows, faults = read_rows()
    wanted = {test for tests in rows.values() for test in tests}
    results = ray_results(sys.argv[2])
    results.update(c_results(build, sorted({t.split(":")[0] for t in wanted if ":" in t})))
    faults += [
        f"{name}: {test} {'did not pass' if test in results else 'did not run'}"
        for name, tests in rows.items()
        for test in tests
        if not results.get(test)
    ]
    faults += [f"{name} did not pass" for name, passed in results.items() if not passed]
    for fault in faults:
        print(f"check_ray_tests: {fault}", file=sys.stderr)
    if not faults:
        print(f"{len(rows)} cases of vLLM's are covered by {len(wanted)} tests, which passed")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
