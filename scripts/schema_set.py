#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""usage: schema_set.py [-v] DIRECTORY [PROGRAM] - how many real schemas compile, why the others are
refused, and what is said of their instances.  DIRECTORY: maskbench/data of the public set
guidance-ai/jsonschemabench, a file a schema; PROGRAM: the built bench/schema_set_bench.  -v names
each valid instance that is refused, too.
"""
import collections
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def follow(root, schema):
    """The schema and all that it is made of at this place."""
    found, left, seen = [], [schema], set()
    while left:
        at = left.pop(0)
        if not isinstance(at, dict) or id(at) in seen:
            continue
        seen.add(id(at))
        found.append(at)
        reference = at.get("$ref")
        if isinstance(reference, str) and reference.startswith("#"):
            target = root
            for part in reference[1:].split("/")[1:]:
                part = part.replace("~1", "/").replace("~0", "~")
                target = target.get(part) if isinstance(target, dict) else None
            left.append(target)
        for key in ("allOf", "anyOf", "oneOf"):
            left += at.get(key) if isinstance(at.get(key), list) else []
        left += [at.get(key) for key in ("then", "else")]
    return found


def in_order(root, schema, value):
    """The value with its members in the schema's order, which is the one that we write."""
    parts = follow(root, schema)
    if isinstance(value, list):
        items = [part["items"] for part in parts if isinstance(part.get("items"), dict)]
        return [in_order(root, {"allOf": items}, item) for item in value]
    if not isinstance(value, dict):
        return value
    named = collections.defaultdict(list)
    for part in parts:
        for name, inner in (part.get("properties") or {}).items():
            named[name].append(inner)
    for part in parts:
        for name in part.get("required") if isinstance(part.get("required"), list) else []:
            named.setdefault(name, [])
    order = {name: i for i, name in enumerate(named)}
    names = sorted(value, key=lambda name: order.get(name, len(order)))
    return {name: in_order(root, {"allOf": named.get(name, [])}, value[name]) for name in names}


def reason_of(message):
    return re.sub(r"\d+", "N", re.sub(r"(\$ref|format'|property) '[^']*'", r"\1 '...'", message))[:110]


def main():
    words = [word for word in sys.argv[1:] if word != "-v"]
    program = words[1] if len(words) > 1 else ROOT / "build/release/bench/schema_set_bench"
    files = sorted(Path(words[0]).glob("**/*.json"))
    cases = []
    for file in files:
        case = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(case, dict) and "schema" in case:
            cases.append((file.name, case))
    count = collections.Counter()
    reasons, shown, slowest = collections.Counter(), [], []
    lines = []
    for _, case in cases:
        schema = case["schema"]
        texts = [json.dumps(in_order(schema, schema, test["data"]), ensure_ascii=False) for test in case["tests"]]
        lines.append(json.dumps({"schema": json.dumps(schema), "texts": texts}))
    answers = subprocess.run([program], input="\n".join(lines) + "\n", capture_output=True, text=True, check=True,
                             cwd=ROOT).stdout.splitlines()
    for (name, case), answer in zip(cases, answers, strict=True):
        word, cost, rest = answer.split(" ", 2)
        count[word] += 1
        slowest.append((float(cost), name))
        if word == "refused":
            reasons[reason_of(rest)] += 1
            continue
        for test, bit in zip(case["tests"], rest, strict=True):
            kind = ("valid" if test["valid"] else "invalid") + (" accepted" if bit == "1" else " refused")
            count[kind] += 1
            if kind in ("valid refused", "invalid accepted"):
                shown.append((kind, name, test["description"]))
    for line in shown:
        if "-v" in sys.argv or line[0] == "invalid accepted":
            print(*line, sep="\t")
    for reason, n in reasons.most_common():
        print(f"{n:6} {reason}")
    print(f"{len(cases)} schemas: {count['ok']} compile, {count['refused']} are refused "
          f"({100 * count['refused'] / max(len(cases), 1):.1f} %)")
    for kind in ("valid accepted", "valid refused", "invalid refused", "invalid accepted"):
        print(f"{kind}: {count[kind]}")
    print("slowest to compile, ms:", *[f"{cost:.0f} {name}" for cost, name in sorted(slowest, reverse=True)[:3]])
    return 1 if count["invalid accepted"] else 0


if __name__ == "__main__":
    sys.exit(main())
