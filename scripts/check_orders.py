#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails where the memory orders of the sources differ from those that the models stand for.

models/orders.tsv names every order of queue/, collective/ and base/wait.c: file, function,
operation, order, and the letter under which a model in models/ takes it away, or the reason
why none does.  scripts/model.sh shows that each letter is needed; this script, that table and
source have the same orders, that some model has a NO_ of each letter, and that model.sh tries
it; not that the model takes away that very operation.

Of other folders, whose orders no model stands for, the table names orders that are not
relaxed, file by file, with what they order: no test on a machine that orders stores would see
them go.  This script shows that a file still has as many of each as the table; not that the
table has all.
"""
import collections
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ["base/wait.c", "queue", "collective"]
OPERATION = re.compile(r"\batomic_(\w+?)(?:_explicit)?\(((?:[^()]|\([^()]*\))*)\)")


def sources(names):
    for name in names:
        at = ROOT / "src" / name
        for path in [at] if at.is_file() else sorted(at.rglob("*.[ch]")):
            if not path.name.endswith("_test.c"):
                yield path


def orders_of(path):
    """(file, function, operation, order), top to bottom; seq_cst where none is written."""
    text = re.sub(r"/\*(?:.|\n)*?\*/", "", path.read_text())
    function = ""
    for chunk in re.split(r"^(?=\w[^\n;]*\()", text, flags=re.M):
        head = re.match(r"[^\n(]*?(\w+)\(", chunk)
        function = head.group(1) if head else function
        for match in OPERATION.finditer(chunk):
            what, arguments = match.groups()
            if what in ("init", "uint32_t"):
                continue
            orders = re.findall(r"memory_order_(\w+)", arguments)
            target = re.match(r"&?(?:\w+(?:\[[^]]*\])?(?:->|\.))*(\w+)", arguments)
            name = what if what == "thread_fence" else f"{what} {target.group(1)}"
            yield path.relative_to(ROOT).as_posix(), function, name, ",".join(orders) or "seq_cst"


def main():
    rows, faults = [], []
    for line in (ROOT / "models/orders.tsv").read_text().splitlines():
        if line and not line.startswith("#"):
            rows.append(line.split("\t"))
    have = [order for path in sources(FOLDERS) for order in orders_of(path)]
    want = [tuple(row[:4]) for row in rows if row[0].endswith((".c", ".h"))]
    loose = collections.Counter(tuple(row[:4]) for row in rows if row[1] == "-")
    for order, n in loose.items():
        there = sum((order[0], "-", *found[2:]) == order
                    for path in sources([order[0].removeprefix("src/")])
                    for found in orders_of(path))
        if there < n:
            faults.append(f"models/orders.tsv has {n} of these, the source {there}: "
                          + "\t".join(order))
    for order in have:
        if order not in want:
            faults.append("the source has, models/orders.tsv has not: " + "\t".join(order))
        else:
            want.remove(order)
    faults += ["models/orders.tsv has, the source has not: " + "\t".join(row) for row in want]
    models = "".join(path.read_text() for path in (ROOT / "models").glob("*.pml"))
    tried = set(re.findall(r"\b\w+\b", " ".join(re.findall(
        r"^for order in (.*); do$", (ROOT / "scripts/model.sh").read_text(), re.M))))
    for row in rows:
        reason = row[4].split(": ")
        for letter in reason[0].split() if len(reason) == 1 else []:
            if f"NO_{letter}" not in models and f"NO_{letter.upper()}" not in models:
                faults.append(f"no model takes {letter} away ({row[0]}, {row[1]})")
            if letter not in tried:
                faults.append(f"scripts/model.sh does not try {letter} ({row[0]}, {row[1]})")
    for fault in faults:
        print(fault)
    print(f"orders: {len(have) + loose.total()} in the sources, {len(faults)} faults")
    return 1 if faults or not have else 0


if __name__ == "__main__":
    sys.exit(main())
