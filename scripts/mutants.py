#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plants one plausible fault at a time and sees whether a test notices.

usage: mutants.py [--folder NAME ...] [--count N] [--seed N] [--slowest S] [--out FILE] [--list]

In a copy of the tree (build/mutants), so that nobody's work is touched.  A fault is drawn by
seed: a folder in turn, an operator, a place.  What it changes is built, then the tests that
reach that folder run (TESTS below), the nearest first, until one fails or gets no end; those
that take longer than S seconds (60) on the sound tree are left out.

  killed        a test failed, or ran past its limit
  survived      all of them passed: a test is missing, or the fault changes nothing
  equivalent    tests/mutants/equivalent.tsv says why it changes nothing; nothing is run
  same code     the compiler makes the same of both
  not compiled  no fault at all

universalmutator and mull were looked at: the first draws from rules for any language and knows
nothing of memory orders, deadlines, ranks or epochs, builds nothing and repeats nothing by
seed; the second wants one LLVM for all of the build.  This is a table of operators and a loop.

Not drawn: what only shows when memory runs out, memory that is not freed or too large (the
sanitizers' builds look for that), lines of the log, and assertions.
"""
import argparse
import collections
import hashlib
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
EQUIVALENT = ROOT / "tests/mutants/equivalent.tsv"
FOLDERS = sorted(path.name for path in (ROOT / "src").iterdir() if path.is_dir()) + ["cohort_ray"]
MARK = "COHORT_MUTANT_RUN"  # in the environment of all that a test starts

# What runs beside the folder's own unit tests; names as ctest has them.
QUEUE = ["check_orders", "queue_race_tsan", "conformance_queue_requirements_test",
         "conformance_queue_conformance_test"]
EXECUTOR = ["check_orders", "conformance_executor_conformance_test", "conformance_executor_requirements_test",
            "scenario_kill_test"]
SERVER = ["serve_test", "serve_params_test", "serve_limits_test", "serve_keys_test",
          "serve_chat_test", "serve_framing_test", "serve_metrics_test", "serve_paths_test",
          "serve_ends_test", "serve_vllm_test", "serve_flags_test", "serve_queue_test",
          "serve_slow_test", "serve_matrix_test", "structured_test", "tools_test"]
TESTS = {
    "base": QUEUE,
    "link": QUEUE + ["conformance_collective_conformance_test"],
    "queue": QUEUE,
    "collective": ["check_orders", "conformance_collective_conformance_test"],
    "counters": ["check_orders", "conformance_executor_conformance_test", "command_test"],
    "launcher": EXECUTOR,
    "executor": EXECUTOR,
    "engine": ["golden_golden_engine_test", "serve_greedy_test", "serve_matrix_test"],
    "worker": ["engine_engine_test", "engine_pairs_test", "golden_golden_engine_test"] + EXECUTOR,
    "model": ["check_orders", "golden_golden_engine_test", "serve_nan_test"],
    "text": ["golden_tokenizer_golden_test", "golden_tokenizer_config_test",
             "conformance_tokenizer_reference_test"],
    "jinja": ["conformance_jinja_reference_test", "serve_chat_test"],
    "chat": ["serve_chat_test", "tools_test"],
    "grammar": ["check_orders", "conformance_grammar_reference_test", "structured_test"],
    "http": SERVER,
    "server": SERVER,
    "client": ["bench_serve_test", "hub_test"],
    "hub": ["hub_test"],
    "cli": ["command_test", "manual_test", "serve_flags_test", "bench_serve_test", "hub_test",
            "serve_test", "serve_sources_test"],
    "cohort_ray": ["cohort_ray_test"],
}
# Of a folder with many tests, those that a file's name asks for come first.
FIRST = [("framing|intake", "serve_framing_test"), ("tools", "tools_test"),
         ("metric|status|report|measure", "serve_metrics_test"),
         ("chat|conversation|message", "serve_chat_test"),
         ("params|schema|json", "serve_params_test"), ("cors|routes", "serve_keys_test"),
         ("listen|process", "serve_paths_test"), ("stat|request|talk|generate", "command_test"),
         ("bench", "bench_serve_test"), ("option|config|vllm", "serve_flags_test"),
         ("find_model", "hub_test"), ("manual|option_words", "manual_test")]

Fault = collections.namedtuple("Fault", "file start end text operator")


def masked(text, is_python):
    """The same length, with comments, literals and preprocessor lines blanked."""
    if is_python:
        pattern = r'"""(?:.|\n)*?"""|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|#[^\n]*'
    else:
        pattern = (r'/\*(?:.|\n)*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
                   r'|^[ \t]*#(?:\\\n|[^\n])*')
    return re.sub(pattern, lambda m: re.sub(r"[^\n]", " ", m.group()), text, flags=re.M)


def closing(text, start):
    """Behind the parenthesis that closes the one at start; 0: none on these lines."""
    depth = 0
    for i in range(start, min(len(text), start + 600)):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if not depth:
            return i + 1
    return 0


def patterns(text, rules):
    for pattern, new in rules:
        for match in re.finditer(pattern, text, re.M):
            yield match.start(), match.end(), match.expand(new)


def conditions(text, shape):
    for match in re.finditer(r"\b(?:if|while) \(", text):
        end = closing(text, match.end() - 1)
        if end:
            yield match.end(), end - 1, shape.format(text[match.end():end - 1])


OPERATORS = {
    "comparison": lambda t: patterns(t, [
        (r" < ", " <= "), (r" <= ", " < "), (r" > ", " >= "), (r" >= ", " > "),
        (r" == ", " != "), (r" != ", " == ")]),
    "bound": lambda t: patterns(t, [
        (r" \+ 1\b", ""), (r" - 1\b", ""), (r" - 1\b", " - 2"), (r" \+ 1\b", " + 2"),
        (r"(?<=[<>]) (\w+(?:(?:->|\.)\w+)*)(?=[;)&|])", r" \1 + 1"),
        (r"(?<=[<>]=) (\w+(?:(?:->|\.)\w+)*)(?=[;)&|])", r" \1 - 1")]),
    "logic": lambda t: patterns(t, [(r" && ", " || "), (r" \|\| ", " && ")]),
    "negated": lambda t: conditions(t, "!({})"),
    "check dropped": lambda t: (
        x for x in [*conditions(t, "0 && ({})"),
                    *patterns(t, [(r"\bCOHORT_TRY\((?=\w)", "((void)")])]),
    "statement dropped": lambda t: patterns(t, [
        (r"^( +)[a-z]\w*\([^;{}]*\);$", r"\1;"),
        (r"^( +)[a-z][\w.>\[\]-]*(?<=[\w\]]) [+|&-]?= [^;{}]*;$", r"\1;"),
        (r"^( +)(?:continue|break);$", r"\1;")]),
    "order weakened": lambda t: patterns(t, [
        (r"\bmemory_order_(?:acquire|release|acq_rel|seq_cst)\b", "memory_order_relaxed"),
        (r"\batomic_thread_fence\([^)]*\)", "(void)0")]),
    "deadline stretched": lambda t: patterns(t, [
        (r"\bcohort_deadline_ms\((\w+)\)", r"cohort_deadline_ms(5 * (\1))"),
        (r"\b([A-Z][A-Z_]*_(?:MS|NS|S|US)) = (\d+)", r"\1 = 5 * \2"),
        (r"\b(\w+(?:->|\.))*(deadline_ns|timeout_ms|until_ns|limit_ns)(?= [<>]| *[,)])",
         r"(\g<0> + 3000000000)")]),
    "constant": lambda t: patterns(t, [
        (r"(?<=[ (\[])([2-9]|[1-9]\d+)(?=[ ,;)\]])", r"(\1 + 1)"),
        (r"(?<== )0(?=;)", "1"), (r"(?<== )1(?=;)", "0")]),
    "return value": lambda t: patterns(t, [
        (r"\breturn true;", "return false;"), (r"\breturn false;", "return true;"),
        (r"\breturn (?:status|COHORT_E_\w+|COHORT_PENDING|COHORT_FAIL\([^;]*\));", "return COHORT_OK;"),
        (r"\breturn COHORT_OK;", "return COHORT_E_INVALID;"),
        (r"\breturn (?!true|false|COHORT|status|NULL)([^;\n]+);", r"return !(\1);"),
        (r"\breturn NULL;", "return (void *)1;")]),
    "arguments swapped": lambda t: patterns(t, [
        (r"(?<=[a-z]\()(&?\w[\w.>-]*), (&?\w[\w.>-]*)\)(?=;| [<>=!])", r"\2, \1)"),
        (r"(?<=, )(\w[\w.>-]*), (\w[\w.>-]*)\)(?=;)", r"\2, \1)")]),
    "index": lambda t: patterns(t, [
        (r"\[(\w+)\]", r"[\1 + 1]"), (r"\[(\w+)\]", "[0]"), (r"\[([\w.>-]+) \+ 1\]", r"[\1]")]),
    "rank or epoch": lambda t: patterns(t, [
        (r"(?<![\w.>*&])(?:\w+(?:->|\.))*(?:rank|epoch|local_rank|sequence|position)\b"
         r"(?! *=[^=]|[\w(\[.]|->|\+\+|--)(?=[,);]| [=!<>+-])", r"(\g<0> + 1)")]),
    "arithmetic": lambda t: patterns(t, [
        (r"(?<=[\w)\]]) \+ (?=[\w(])", " - "), (r"(?<=[\w)\]]) - (?=[\w(])", " + "),
        (r" \+= ", " -= "), (r" -= ", " += "), (r" \* ", " + "), (r" % ", " / "),
        (r"(?<=\w)\+\+", "--"), (r" \? ([^:?\n]+) : ([^;,)\n]+)", r" ? \2 : \1")]),
    "not removed": lambda t: patterns(t, [(r"(?<=[ (])!(?=[a-z(])", "")]),
}
PYTHON = {
    "comparison": lambda t: patterns(t, [
        (r" == ", " != "), (r" != ", " == "), (r" < ", " <= "), (r" >= ", " > "),
        (r" is not None", " is None"), (r" is None", " is not None"), (r" not in ", " in ")]),
    "logic": lambda t: patterns(t, [(r" and ", " or "), (r" or ", " and "), (r"\bnot ", "")]),
    "statement dropped": lambda t: patterns(t, [
        (r"^( +)[a-z][\w.]*\([^\n]*\)$", r"\1pass"), (r"^( +)[\w.]+ = [^\n]*[)\w\]]$", r"\1pass")]),
    "return value": lambda t: patterns(t, [
        (r"\breturn True$", "return False"), (r"\breturn False$", "return True"),
        (r"\breturn [^\n]+$", "return None")]),
    "constant": lambda t: patterns(t, [(r"(?<=[ (])(\d+)(?=[ ,)\n])", r"(\1 + 1)")]),
}


def sources(tree, folder):
    if folder == "cohort_ray":
        return sorted((tree / "python/cohort_ray").glob("*.py"))
    at = tree / "src" / folder
    found = [path for shape in ("*.c", "*_body.h", "*_impl.h") for path in sorted(at.rglob(shape))]
    return [path for path in found if not path.name.endswith("_test.c")]


def is_left_out(text, start):
    """Memory, the log, and a function's own head."""
    first = text.rfind("\n", 0, start) + 1
    line, following = (text[first:].split("\n", 2) + [""])[:2]
    return bool(re.search(r"COHORT_E_NOMEM|\b(?:m|c|re)alloc\(", line) or "COHORT_E_NOMEM" in following
                or re.match(r" *(?:if \(\w+\) )?(?:free|cJSON_Delete|[\w.>-]+_(?:destroy|deinit|free|cleanup))\(", line)
                or re.match(r" *(?:cohort_log\w*|assert|_Static_assert)\(|[a-z].*\) \{$", line)
                or re.match(r" *(?:static |const )*[a-z]\w* \w+\[[^=]*;", line))


def faults_of(tree, path):
    text = path.read_text()
    is_python = path.suffix == ".py"
    visible = masked(text, is_python)
    name = path.relative_to(tree).as_posix()
    for operator, places in (PYTHON if is_python else OPERATORS).items():
        for start, end, new in places(visible):
            # What the mask blanked inside of the place stays as it is.
            if visible[start:end] != text[start:end]:
                if operator in ("negated", "check dropped") and text[start:end].strip():
                    new = new.replace(visible[start:end], text[start:end])
                elif not new.strip(" ;()void") or new.strip() == "pass":
                    pass
                else:
                    continue
            if new != text[start:end] and not is_left_out(text, start):
                yield Fault(name, start, end, new, operator)


def draw(tree, folders, count, seed):
    """count faults, the folders in turn; in each an operator, then a place, none twice."""
    dice = random.Random(seed)
    piles = {}
    for folder in folders:
        pile = collections.defaultdict(list)
        for path in sources(tree, folder):
            for fault in faults_of(tree, path):
                pile[fault.operator].append(fault)
        if pile:
            piles[folder] = pile
    taken = set()
    while piles and len(taken) < count:
        for folder in [f for f in folders if f in piles]:
            if len(taken) == count:
                break
            pile = piles[folder]
            operator = dice.choice(sorted(pile))
            fault = pile[operator].pop(dice.randrange(len(pile[operator])))
            if not pile[operator]:
                del pile[operator]
            if not pile:
                del piles[folder]
            if fault not in taken:
                taken.add(fault)
                yield folder, fault


def lines_of(fault, text):
    """The line before and after: what a fault is known by, wherever the line moves."""
    first = text.rfind("\n", 0, fault.start) + 1
    last = text.find("\n", fault.end)
    before = " ".join(text[first:last].split())
    after = " ".join((text[first:fault.start] + fault.text + text[fault.end:last]).split())
    return before, after


def equivalents():
    known = {}
    for line in EQUIVALENT.read_text().splitlines():
        if line and not line.startswith("#"):
            file, before, after, reason = line.split("\t")
            known[file, before, after] = reason
    return known


class Scratch:
    """The copy of the tree, built once, then one file at a time."""

    def __init__(self, folder, slowest_s):
        self.slowest_s = slowest_s
        self.tree = folder / "tree"
        self.build = folder / "build"
        self.seconds = {}
        names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True,
                               stdout=subprocess.PIPE).stdout.decode().split("\0")
        self.names = {name for name in names if name and (ROOT / name).is_file()}
        for name in self.names:
            self.take(name)
        for path in [p for p in self.tree.rglob("*") if p.is_file() or p.is_symlink()]:
            if path.relative_to(self.tree).as_posix() not in self.names:
                path.unlink()
        launcher = ["-DCMAKE_C_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
        subprocess.run(["cmake", "-S", self.tree, "-B", self.build, "-G", "Ninja",
                        "-DCMAKE_BUILD_TYPE=Release", *launcher,
                        # A warning that the gate does not let through is no fault.
                        "-DCMAKE_C_FLAGS=-Werror=int-conversion "
                        "-Werror=incompatible-pointer-types"], check=True,
                       stdout=subprocess.DEVNULL)
        self.run(["cmake", "--build", self.build, "-j", os.environ.get("JOBS", "2")], 3600, True)

    def take(self, name):
        """Only what differs is written: the build looks at the times of files."""
        old, new = ROOT / name, self.tree / name
        if not new.is_file() or new.read_bytes() != old.read_bytes():
            new.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(old, new)

    def run(self, command, limit_s, must=False):
        """Its exit status; None past the limit.  All that it started is gone afterwards."""
        def alone():
            os.setsid()
            resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 30, 4 << 30))
        token = f"{os.getpid()}-{time.monotonic_ns()}"
        environment = os.environ | {MARK: token, "COHORT_SOURCE_DIR": str(self.tree),
                                    "COHORT_BUILD_DIR": str(self.build)}
        with open(self.build / "mutant.log", "wb") as log:
            child = subprocess.Popen(command, cwd=self.tree, env=environment, stdout=log,
                                     stderr=log, stdin=subprocess.DEVNULL, preexec_fn=alone)
            try:
                status = child.wait(limit_s)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                end_marked(token)
        child.wait()
        if must and status != 0:
            sys.exit((self.build / "mutant.log").read_text(errors="replace")[-4000:])
        return status

    def object_of(self, name):
        found = list(self.build.glob(f"CMakeFiles/*.dir/{name}.o"))
        return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(found))).hexdigest() \
            if found else None

    def script_of(self, name):
        found = [*self.tree.glob(f"tests/*/{name}.py"), *self.tree.glob(f"scripts/{name}.py")]
        return found[0] if found else None

    def make(self, test=""):
        """0 where it builds: the command, and a test that is a program of its own."""
        targets = ["cohort"] if not test or self.script_of(test) else ["cohort", test]
        return self.run(["cmake", "--build", self.build, "-j2", "--target", *targets], 900)

    def test(self, name, limit_s):
        return self.run([self.script_of(name) or self.build / name], limit_s)

    def exists(self, name):
        return (self.build / name).exists() or bool(self.script_of(name))

    def limit_of(self, name):
        """Five times what it takes on the sound tree, and 10 s; a test that fails there or is
        skipped notices nothing, and is left out, as is one that takes too long."""
        if name not in self.seconds:
            start = time.monotonic()
            status = self.test(name, self.slowest_s)
            self.seconds[name] = time.monotonic() - start if status == 0 else None
            if status != 0:
                why = "takes too long" if status is None else f"says {status} without a fault"
                print(f"left out: {name} {why}", flush=True)
        seconds = self.seconds[name]
        return None if seconds is None else 5 * seconds + 10


def end_marked(token):
    """Also what made itself a session of its own.  By its environment: nobody else has it."""
    want = f"{MARK}={token}".encode()
    for _ in range(100):
        left = []
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if want in (entry / "environ").read_bytes().split(b"\0") and \
                        (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                    left.append(int(entry.name))
            except OSError:
                continue
        if not left:
            return
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.05)


def tests_of(scratch, folder, fault):
    own = []
    if folder != "cohort_ray":
        for path in sorted((scratch.tree / "src" / folder).rglob("*_test.c")):
            own.append(path.relative_to(scratch.tree / "src").as_posix()[:-2].replace("/", "_"))
    stem = pathlib.Path(fault.file).stem
    mine = [name for name in own if name.endswith("_" + stem + "_test")]
    others = [name for name in TESTS.get(folder, []) if scratch.exists(name)]
    asked = [test for word, test in FIRST if re.search(word, stem) and test in others]
    return list(dict.fromkeys(mine + own + asked + others))


def judge(scratch, folder, fault, known):
    """What became of it, and by what."""
    path = scratch.tree / fault.file
    text = path.read_text()
    reason = known.get((fault.file, *lines_of(fault, text)))
    if reason:
        return "equivalent", reason
    old = scratch.object_of(fault.file)
    faulty = text[:fault.start] + fault.text + text[fault.end:]
    path.write_text(faulty)
    try:
        if scratch.make() != 0:
            return "not compiled", ""
        if old and scratch.object_of(fault.file) == old and "order" not in fault.operator:
            return "same code", ""
        for name in tests_of(scratch, folder, fault):
            if name not in scratch.seconds: # the first time: how long it takes without a fault
                path.write_text(text)
                scratch.make(name)
                scratch.limit_of(name)
                path.write_text(faulty)
            if scratch.seconds[name] is None:
                continue
            scratch.make(name)
            status = scratch.test(name, scratch.limit_of(name))
            if status not in (0, 77):
                return "killed", name if status is not None else f"{name} got no end"
    finally:
        path.write_text(text)
    return "survived", ""


def table(results):
    kinds = ["killed", "survived", "equivalent", "same code", "not compiled"]
    rows = collections.defaultdict(collections.Counter)
    for folder, kind in results:
        rows[folder][kind] += 1
        rows["all"][kind] += 1
    yield f"{'folder':12}" + "".join(f"{kind:>14}" for kind in kinds) + f"{'noticed':>10}"
    for folder in [*FOLDERS, "all"]:
        if folder in rows:
            row = rows[folder]
            could = row["killed"] + row["survived"]
            share = f"{100 * row['killed'] / could:.0f} %" if could else "-"
            yield f"{folder:12}" + "".join(f"{row[kind]:14}" for kind in kinds) + f"{share:>10}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", nargs="*", default=[])
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--slowest", type=float, default=60)
    parser.add_argument("--out", type=pathlib.Path, help="what is printed goes there, too")
    parser.add_argument("--scratch", type=pathlib.Path, default=ROOT / "build/mutants")
    parser.add_argument("--list", action="store_true", help="draw only")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    scratch = None if arguments.list else Scratch(arguments.scratch.resolve(),
                                                          arguments.slowest)
    tree = scratch.tree if scratch else ROOT
    folders = [f for f in arguments.folder or FOLDERS if sources(tree, f)]
    known = equivalents()
    faults = list(draw(tree, folders, arguments.count, arguments.seed))
    results, lines = [], [f"seed {arguments.seed}, {len(faults)} faults"]
    for number, (folder, fault) in enumerate(faults, 1):
        text = (tree / fault.file).read_text()
        line = text.count("\n", 0, fault.start) + 1
        before, after = lines_of(fault, text)
        kind, by = ("drawn", "") if arguments.list else judge(scratch, folder, fault, known)
        results.append((folder, kind))
        say = f"{number:4} {kind:12} {fault.file}:{line} {fault.operator}: {before}  =>  {after}"
        lines.append(say + (f"  [{by}]" if by else ""))
        print(lines[-1], flush=True)
    lines += list(table(results))
    print("\n".join(lines[-len(set(f for f, _ in results)) - 2:]), flush=True)
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")
    return 1 if any(kind == "survived" for _, kind in results) else 0


if __name__ == "__main__":
    sys.exit(main())
