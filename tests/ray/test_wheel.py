# SPDX-License-Identifier: Apache-2.0
"""`make wheel`: one pip install, far from the tree, is all that a node needs."""
from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator

import pytest

import support

# What auditwheel's policy leaves to the host: glibc, and zlib, which Python needs itself.
OF_THE_HOST = re.compile(r"/(ld-linux-x86-64|lib(c|m|z|resolv))\.so\.[\d.]+$")
PROGRAM = """
import json, sys
from cohort_ray import LLM
import ray
ray.init(sys.argv[1], log_to_driver=False)
with LLM(sys.argv[2], tensor_parallel_size=2, skip_tokenizer_init=True) as llm:
    output = llm.generate([[1, 5, 9, 200, 17, 3]], max_tokens=32, temperature=0, ignore_eos=True)
    print(json.dumps({"tokens": output[0].outputs[0].token_ids, "pid": llm._process.pid}), flush=True)
    sys.stdin.read()
"""


class Installed:
    """An environment that has the wheel, and Ray by a path to ours; nothing names the tree."""

    def __init__(self, folder: pathlib.Path, wheel: pathlib.Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        self.python = folder / "bin/python"
        subprocess.run(
            [sys.executable, "-m", "pip", "--python", self.python, "install", "--quiet", "--no-deps",
             "--no-index", "--disable-pip-version-check", wheel], check=True)
        (self.packages,) = folder.glob("lib/python3*/site-packages")
        (self.packages / "ray.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
        self.script = folder / "bin/cohort"
        self.command = self.packages / "cohort_ray/bin/cohort"
        self.library = self.packages / "cohort_ray/lib/libcohort.so"

    def run(self, *words: str | pathlib.Path, **more: str) -> subprocess.CompletedProcess[str]:
        """At the root."""
        return subprocess.run(words, cwd="/", env=bare(**more), capture_output=True, text=True,
                              timeout=support.READY_S, check=False)


def bare(**more: str) -> dict[str, str]:
    """Without what leads to the tree."""
    env = support.environment(**more)
    for name in ("PYTHONPATH", "COHORT_COMMAND", "COHORT_LIBRARY", "COHORT_PYTHON", "VIRTUAL_ENV"):
        env.pop(name, None)
    return env


@pytest.fixture(scope="module", name="wheel")
def made() -> pathlib.Path:
    """By the script of `make wheel`."""
    done = subprocess.run([str(support.ROOT / "scripts/wheel.sh"), str(support.BUILD)],
                          stdout=subprocess.PIPE, text=True, check=True)
    return pathlib.Path(done.stdout.strip())


@pytest.fixture(scope="module", name="installed")
def here(wheel: pathlib.Path) -> Iterator[Installed]:
    """On one node."""
    with tempfile.TemporaryDirectory(prefix="whl") as folder:
        yield Installed(pathlib.Path(folder), wheel)


def elf_files(installed: Installed) -> list[pathlib.Path]:
    """Of the wheel."""
    files = [path for path in installed.packages.glob("cohort_ray*/**/*") if path.is_file()]
    return [path for path in files if path.read_bytes()[:4] == b"\x7fELF"]


def foreign(installed: Installed, paths: set[str]) -> list[str]:
    """Those neither of the wheel nor what every host has."""
    real = {os.path.realpath(path) for path in paths}
    return sorted(path for path in real
                  if not pathlib.Path(path).is_relative_to(installed.packages.resolve())
                  and not OF_THE_HOST.search(path))


def test_wheel_has_no_path_of_where_it_was_made(installed: Installed) -> None:
    files = elf_files(installed)
    assert {installed.command, installed.library} < set(files)
    traces = [str(place).encode() for place in (support.ROOT, support.BUILD, pathlib.Path.home())]
    for path in files:
        said = subprocess.run(["readelf", "-dW", path], capture_output=True, text=True, check=True)
        for found in re.findall(r"\((?:RUNPATH|RPATH)\).*\[(.*)\]", said.stdout):
            assert all(place.startswith("$ORIGIN") for place in found.split(":")), path
        data = path.read_bytes()
        assert not [trace for trace in traces if trace + b"/" in data], path


def test_wheel_needs_no_library_of_its_host(installed: Installed) -> None:
    for path in elf_files(installed):
        said = installed.run("ldd", path).stdout
        assert "not found" not in said, path
        assert not foreign(installed, set(re.findall(r"(/\S+) \(0x", said))), path
    # libcurl is opened when it is needed; nobody listens on that port.
    done = installed.run(installed.command, "complete", "-q", "x", "--url", "http://127.0.0.1:1/v1",
                         LD_DEBUG="files")
    loaded = set(re.findall(r"calling init: (/\S+)", done.stderr))
    assert any("/libcurl" in path for path in loaded), done.stderr
    assert not foreign(installed, loaded)


def test_command_and_library_are_one_build(installed: Installed) -> None:
    said = installed.run(installed.script, "--version")
    assert said.returncode == 0, said.stderr
    found = re.fullmatch(r"cohort (\S+) \(build (\w+)\)\n", said.stdout)
    assert found, said.stdout
    program = ("import ctypes, importlib.metadata, sys\nlibrary = ctypes.CDLL(sys.argv[1])\n"
               "library.cohort_ray_actor_build_id.restype = ctypes.c_char_p\n"
               "print(importlib.metadata.version('cohort-ray'), "
               "library.cohort_ray_actor_build_id().decode())")
    version, build = installed.run(installed.python, "-c", program, installed.library).stdout.split()
    assert version == found[1]
    assert build.startswith(found[2])


def test_script_passes_on_what_it_is_given(installed: Installed) -> None:
    wrong = installed.run(installed.script, "generate", "--no-such-flag", "a b")
    assert wrong.returncode == 2
    assert "no-such-flag" in wrong.stderr
    own = installed.run(installed.command, "generate", "--no-such-flag", "a b")
    assert wrong.stderr == own.stderr


def test_wheel_generates_with_mp_and_on_ray(clean: support.Cluster, installed: Installed) -> None:
    expected = support.generate()
    for backend in ("mp", "ray"):
        found = support.generate(
            "--distributed-executor-backend", backend, "-tp", "2", cohort=installed.script,
            inside=["env", "-C", "/"], env=bare(RAY_ADDRESS=clean.address))
        assert found == expected, backend


def test_each_node_uses_the_wheel_that_it_has(wheel: pathlib.Path, installed: Installed) -> None:
    """LLM of one environment, on a node whose Ray is another's."""
    with tempfile.TemporaryDirectory(prefix="whl") as folder:
        node = Installed(pathlib.Path(folder), wheel)
        ray = (str(node.python), "-m", "ray.scripts.scripts")
        with support.cluster(ray=ray, PYTHONPATH="") as cluster, subprocess.Popen(
            [installed.python, "-c", PROGRAM, cluster.address, support.MODEL], cwd="/", env=bare(),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as program:
            assert program.stdout
            said = json.loads(program.stdout.readline())
            exe = pathlib.Path(f"/proc/{said['pid']}/exe").resolve()
            mapped = [
                maps for pid in support.descendants(cluster.process.pid)
                if "/libcohort.so" in (maps := pathlib.Path(f"/proc/{pid}/maps").read_text("utf-8"))
            ]
            program.communicate(timeout=support.END_S)
            assert program.returncode == 0
    assert said["tokens"] == support.generate()
    assert exe == installed.command.resolve()
    assert len(mapped) == 2
    assert all(str(node.library.resolve()) in maps for maps in mapped)
