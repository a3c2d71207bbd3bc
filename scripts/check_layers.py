#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails where src/ is not in the order of ARCHITECTURE.md, or a file or function is too long.

A folder includes only folders before it, public headers as well, and of another folder only what
that shows: the header of its own name and those listed here.  Tests see all.  A unit is a source
with its header: a circle of units that include each other, or call each other, is of one folder
and of at most three.  No two folders share a type's name, or the noun of functions.  Functions
have up to 70 lines, files up to 700.
"""
import ast
import collections
import pathlib
import re
import sys

LAYERS = ["base", "counters", "link", "queue", "collective", "wire", "text", "grammar", "jinja",
          "chat", "model", "worker", "launcher", "ray", "executor", "engine", "http", "server",
          "client", "hub", "bench", "cli"]
# What a folder shows beside the header of its own name.
SHOWN = {
    "base": ["body", "build_id", "cancel", "condition", "fail", "files", "grow", "log", "memory",
             "option", "poll", "process", "random", "thread", "wait"],
    "wire": ["frame", "sampling_options", "step"],
    "text": ["tokenizer"],
    "chat": ["json_text", "output"],
    "model": ["json", "keeper", "model_config", "profile", "sample", "shard"],
    "worker": ["carrier", "runner", "runner_options", "worker_main"],
    "launcher": ["child"],
    "executor": ["executor_options"],
    "engine": ["engine_options"],
    "server": ["server_options"],
    "client": ["curl_api"],
    "bench": ["micro"],
}
# Whose a public header is: include/cohort/NAME.h.
PUBLIC = {
    "status": "base", "clock": "base", "dtype": "base", "queue": "queue",
    "collective": "collective", "sampling": "wire", "grammar": "grammar", "worker": "worker",
    "launch": "launcher", "executor": "executor", "engine": "engine",
}
MOST_LINES, MOST_FUNCTION_LINES, MOST_IN_A_CIRCLE = 700, 70, 3

# Not so yet, and why.
CIRCLES_LEFT = {}
NAMES_LEFT = {}
SIZES_LEFT = {}

ROOT = pathlib.Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)
CODE = ("src/**/*.[ch]", "include/**/*.h", "tests/**/*.[ch]", "bench/**/*.[ch]", "examples/*.c")
PYTHON = ("tests/**/*.py", "bench/**/*.py", "python/**/*.py", "scripts/*.py")
COMMENT = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.S)
# What others may name: no static, at the beginning of a line.
DEFINED = re.compile(r"^(?!static\b|typedef\b|extern\b|struct \w+ \{|enum\b)\w[^;={}()#]*?"
                     r"\b(\w+)(?:\([^;{}]*\)\s*\{|(?:\[[^\]]*\])? = )", re.M)


def is_test(path):
    return path.name.endswith("_test.c") or path.name.endswith("_test.h")


def files_of(patterns):
    return sorted(path for pattern in patterns for path in ROOT.glob(pattern))


def name_of(path):
    return path.relative_to(ROOT).as_posix()


# ---- the order of folders --------------------------------------------------------------------


def owner_of(header):
    """The folder that a header is of; None: of none."""
    folder, _, rest = header.partition("/")
    if folder == "cohort":
        return PUBLIC.get(rest.removesuffix(".h"))
    return folder if rest and folder in LAYERS else None


def is_shown(header):
    folder, _, rest = header.partition("/")
    return folder == "cohort" or rest.removesuffix(".h") in [folder, *SHOWN.get(folder, [])]


def order_faults(path, folder):
    for header in INCLUDE.findall(path.read_text()):
        owner = owner_of(header)
        if owner is None:
            yield f"{name_of(path)}: includes {header}, which is of no folder"
        elif LAYERS.index(owner) > LAYERS.index(folder):
            yield f"{name_of(path)}: includes {header}, but {owner} comes after {folder}"
        elif owner != folder and not is_shown(header):
            yield f"{name_of(path)}: includes {header}, which is private to {owner}"


def layer_faults():
    for path in files_of(["src/**/*.[ch]"]):
        folder = path.relative_to(ROOT / "src").parts[0]
        if folder not in LAYERS:
            yield f"{name_of(path)}: {folder} has no place in the order (scripts/check_layers.py)"
        elif not is_test(path):
            yield from order_faults(path, folder)
    for path in files_of(["include/**/*.h"]):
        if path.stem not in PUBLIC:
            yield f"{name_of(path)}: is of no folder (scripts/check_layers.py)"
            continue
        yield from order_faults(path, PUBLIC[path.stem])
        for header in INCLUDE.findall(path.read_text()):
            if not header.startswith("cohort/"):
                yield f"{name_of(path)}: includes {header}; a public header stands alone"


# ---- names -----------------------------------------------------------------------------------


def names_of(text):
    """What a header gives a name to: types as they are, functions as cohort_<noun>_."""
    bare = COMMENT.sub(" ", text)
    yield from re.findall(r"^(?:typedef )?(?:struct|enum|union) (cohort_\w+) \{", bare, re.M)
    yield from re.findall(r"^[\w ]+[ *](cohort_[a-z0-9]+_)\w+\(", bare, re.M)


def name_faults():
    folders = collections.defaultdict(set)
    for path in files_of(["src/**/*.h"]):
        if not is_test(path):
            for name in names_of(path.read_text()):
                folders[name].add(path.relative_to(ROOT / "src").parts[0])
    for name, where in sorted(folders.items()):
        if len(where) > 1 and name not in NAMES_LEFT:
            yield f"{name} is a name in {' and '.join(sorted(where))}"


# ---- circles ---------------------------------------------------------------------------------


def graphs_of_units():
    """Unit -> the units whose headers it includes, and -> those whose functions it names."""
    included, named, home = collections.defaultdict(set), collections.defaultdict(set), {}
    for path in files_of(["src/**/*.[ch]"]):
        unit = name_of(path).rpartition(".")[0].removeprefix("src/")
        if is_test(path):
            continue
        text = path.read_text()
        included[unit] |= {header.removesuffix(".h") for header in INCLUDE.findall(text)}
        if path.suffix == ".c":
            bare = COMMENT.sub(" ", text)
            named[unit] |= set(re.findall(r"\w+", bare))
            home.update((name, unit) for name in DEFINED.findall(bare))
    yield "include", {unit: others & set(included) - {unit} for unit, others in included.items()}
    yield "call", {unit: {home[word] for word in words & set(home)} - {unit}
                   for unit, words in named.items()}


def circles_of(used):
    """Tarjan's: the sets of units that use each other, directly or not."""
    number, low, path, circles = {}, {}, [], []

    def visit(unit):
        number[unit] = low[unit] = len(number)
        path.append(unit)
        for other in used[unit]:
            if other not in number:
                visit(other)
            if other in path:
                low[unit] = min(low[unit], low[other])
        if low[unit] == number[unit]:
            circle = path[path.index(unit):]
            del path[path.index(unit):]
            circles.append(sorted(circle))

    for unit in sorted(used):
        if unit not in number:
            visit(unit)
    return [circle for circle in circles if len(circle) > 1]


def circle_faults():
    for verb, graph in graphs_of_units():
        for circle in circles_of(graph):
            folders = {unit.split("/")[0] for unit in circle}
            if len(folders) == 1 and len(circle) <= MOST_IN_A_CIRCLE:
                continue
            if len(folders) > 1 or not folders & set(CIRCLES_LEFT):
                yield f"{len(circle)} files {verb} each other in a circle: {', '.join(circle)}"


# ---- sizes -----------------------------------------------------------------------------------


def functions_of(text):
    """(first line from 0, number of lines) of every function, as clang-format lays it out."""
    lines = text.split("\n")
    begin = None
    for i, line in enumerate(lines):
        if line[:1].isalpha() and not line.startswith(("typedef", "enum", "struct {", "union")):
            begin = i
        if line == "}" and begin is not None:
            head = " ".join(lines[begin:i])
            if "(" in head.partition("{")[0]:
                yield begin, i - begin + 1


def python_functions_of(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.lineno - 1, node.end_lineno - node.lineno + 1


def sizes_over():
    """(file, what is too long in it)"""
    for patterns, functions in ((CODE, functions_of), (PYTHON, python_functions_of)):
        for path in files_of(patterns):
            text = path.read_text()
            n_lines = text.count("\n")
            if n_lines > MOST_LINES:
                yield name_of(path), f"{n_lines} lines are more than {MOST_LINES}"
            for begin, length in functions(text):
                if length > MOST_FUNCTION_LINES:
                    yield name_of(path), (f"the function of line {begin + 1} has {length} lines, "
                                          f"more than {MOST_FUNCTION_LINES}")


def size_faults():
    for name, what in sizes_over():
        if name not in SIZES_LEFT:
            yield f"{name}: {what}"


def main():
    faults = [*layer_faults(), *name_faults(), *circle_faults(), *size_faults()]
    for fault in faults:
        print(fault)
    print(f"layers: {len(files_of(CODE))} files, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
