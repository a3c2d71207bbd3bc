#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails where a bug of vLLM's executors that we must not have (R1 to R43 of docs/requirements.md) has no test
named after it, or where that test did not pass in the ctest run of the given build folder.

usage: check_requirements.py BUILD_DIR
"""
import pathlib
import re
import sys

REQUIRED = {1, *range(8, 12), *range(14, 18), 20, 22, 23, *range(25, 42), 43}
TESTS = ("src/**/*_test.c", "tests/**/*_test.c")
ROOT = pathlib.Path(__file__).resolve().parent.parent


def named_tests():
    for pattern in TESTS:
        for path in ROOT.glob(pattern):
            yield from re.findall(r"^static void (r\d+b?_\w+)\(void \*\*", path.read_text(), re.M)


def main():
    log = pathlib.Path(sys.argv[1]) / "Testing" / "Temporary" / "LastTest.log"
    ran = re.findall(r"^\[ +(OK|FAILED|SKIPPED) +\] (\w+)", log.read_text(errors="replace"), re.M)
    passed = {name for word, name in ran if word == "OK"}
    passed -= {name for word, name in ran if word != "OK"}
    named = set(named_tests())
    numbers = {int(re.match(r"r(\d+)b?_", name).group(1)) for name in named}
    faults = [f"R{number} has no test named r{number}_..." for number in REQUIRED - numbers]
    faults += [f"{name} did not run and pass" for name in named - passed]
    for fault in sorted(faults):
        print(f"check_requirements: {fault}", file=sys.stderr)
    if not faults:
        print(f"{len(named)} tests passed for the {len(numbers)} numbers that ask for one")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
