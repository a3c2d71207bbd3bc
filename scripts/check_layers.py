#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails where a folder of src/ includes a later one, or looks into another's insides.

The order is that of ARCHITECTURE.md, leaves first.  What a folder shows to others is the
header of its own name and those listed here; everything else in it is private.  Tests see
all.
"""
import pathlib
import re
import sys

LAYERS = ["base", "counters", "link", "queue", "collective", "wire", "text", "grammar", "jinja", "chat", "model", "worker",
          "launcher", "ray", "executor", "engine", "http", "server", "client", "hub",
          "cli"]
PRIVATE = re.compile(r"(_internal|_impl|_body)\.h$|^model/cpu/|^queue/(ring|shm|stream)\.h$|"
                     r"^collective/(board|outbox|reduce)\.h$")
ROOT = pathlib.Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def faults_of(path):
    name = path.relative_to(ROOT / "src").as_posix()
    folder = name.split("/")[0]
    if folder not in LAYERS:
        yield f"src/{name}: folder {folder} has no place in the order (scripts/check_layers.py)"
        return
    for header in INCLUDE.findall(path.read_text()):
        other = header.split("/")[0]
        if other == "cohort" or "/" not in header:
            continue
        if other not in LAYERS:
            yield f"src/{name}: includes {header}, which is in no folder of src/"
        elif LAYERS.index(other) > LAYERS.index(folder):
            yield f"src/{name}: includes {header}, but {other} comes after {folder}"
        elif other != folder and PRIVATE.search(header):
            yield f"src/{name}: includes {header}, which is private to {other}"


def main():
    sources = sorted(p for p in (ROOT / "src").rglob("*.[ch]"))
    faults = [fault for path in sources if not path.name.endswith("_test.c")
              for fault in faults_of(path)]
    faults += [f"{path.relative_to(ROOT)}: includes {header}; a public header stands alone"
               for path in sorted((ROOT / "include").rglob("*.h"))
               for header in INCLUDE.findall(path.read_text())
               if not header.startswith("cohort/")]
    for fault in faults:
        print(fault)
    print(f"layers: {len(sources)} files, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
