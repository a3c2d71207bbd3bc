#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails where a case of vLLM's tests of its Ray executor, or a bug that it had, has no test of
ours that ran and passed: tests/ray/coverage.txt says which test that is.

usage: check_ray_tests.py BUILD_DIR JUNIT_XML
"""
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
COVERAGE = ROOT / "tests/ray/coverage.txt"


def ray_results(path):
    """Name without parameters -> has every case of it passed?"""
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
    rows = [
        line.split()
        for line in COVERAGE.read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.startswith("#")
    ]
    wanted = {test for row in rows for test in row[1:]}
    results = ray_results(sys.argv[2])
    results.update(c_results(build, sorted({t.split(":")[0] for t in wanted if ":" in t})))
    faults = [f"{row[0]} names no test" for row in rows if len(row) < 2]
    faults += [
        f"{row[0]}: {test} {'did not pass' if test in results else 'did not run'}"
        for row in rows
        for test in row[1:]
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
