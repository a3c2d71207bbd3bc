# SPDX-License-Identifier: Apache-2.0
"""What those who run a cluster hold on to: the example for Kubernetes, the page of docs/, and which
Python is taken."""
from __future__ import annotations

import pathlib
import re
import shutil
import subprocess
import sys

import yaml

import support
from support import Cluster, Probe

KUBERAY = support.ROOT / "examples/kuberay"
DOCS = support.ROOT / "docs/ray.md"


def flags_of(*command: str) -> set[str]:
    """That a command knows."""
    done = subprocess.run([support.COHORT, *command, "--help"], capture_output=True, text=True,
                          check=True)
    return set(re.findall(r"(?<![\w-])(--?[a-z][\w-]*)", done.stdout))


def test_kuberay_example_is_a_cluster_of_ours() -> None:
    """It parses; every container has our image, the models and memory; two pods have the CPUs."""
    found = yaml.safe_load((KUBERAY / "raycluster.yaml").read_text(encoding="utf-8"))
    assert (found["apiVersion"], found["kind"]) == ("ray.io/v1", "RayCluster")
    groups = [found["spec"]["headGroupSpec"], *found["spec"]["workerGroupSpecs"]]
    assert sum(group.get("replicas", 1) for group in groups) == 2
    for group in groups:
        spec = group["template"]["spec"]
        (container,) = spec["containers"]
        assert container["image"].startswith("cohort-ray:")
        assert container["resources"]["limits"] == container["resources"]["requests"]
        volumes = {volume["name"] for volume in spec["volumes"]}
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert set(mounts) == {"/models", "/dev/shm"} and set(mounts.values()) == volumes
    image = (KUBERAY / "Dockerfile").read_text(encoding="utf-8")
    version = found["spec"]["rayVersion"]
    assert f"FROM rayproject/ray:{version}-py3" in image
    package = (support.ROOT / "python/pyproject.toml").read_text(encoding="utf-8")
    lower, upper = re.search(r"ray>=([\d.]+),<([\d.]+)", package).groups()  # type: ignore[union-attr]
    as_numbers = [[*map(int, text.split("."))] for text in (lower, version, upper)]
    assert as_numbers == sorted(as_numbers) and lower != upper


def test_page_names_real_flags() -> None:
    """Whatever docs/ray.md tells to type."""
    text = DOCS.read_text(encoding="utf-8")
    known = flags_of("serve")
    lines = re.findall(r"(?<![\w/])cohort (serve|doctor ray|stat|generate)\b([^\n`]*)", text)
    assert {name for name, _ in lines} >= {"serve", "doctor ray"}
    for name, rest in lines:
        assert set(re.findall(r"(?<![\w-])(--?[a-z][\w-]*)", rest)) <= flags_of(*name.split()), rest
    named = set(re.findall(r"`(--[a-z][\w-]*)", text))
    assert len(named) > 6 and named <= known, named - known
    assert "cohort serve /models/" in text and "/models" in (KUBERAY / "raycluster.yaml").read_text()


def without_python(**more: str) -> dict[str, str]:
    """An environment that does not say which; nothing in PATH has Ray."""
    env = support.environment(**more)
    del env["COHORT_PYTHON"]
    env["PATH"] = "/usr/bin:/bin"
    return env


def test_python_of_an_active_venv(clean: Cluster) -> None:
    env = without_python(VIRTUAL_ENV=sys.prefix)
    with Probe(address=clean.address, env=env) as probe:
        assert probe.start.get("ready"), probe.start
        command = pathlib.Path(f"/proc/{probe.sidecar()}/cmdline").read_bytes().split(b"\0")
        assert command[0].decode() == f"{sys.prefix}/bin/python"


def test_python_beside_the_command(clean: Cluster, tmp_path: pathlib.Path) -> None:
    """As an installation into a venv has it."""
    probe_there = shutil.copy(support.PROBE, tmp_path / "ray_probe")
    beside = tmp_path / "python3"
    beside.write_text(f'#!/bin/sh\nBESIDE=yes exec "{sys.executable}" "$@"\n', encoding="utf-8")
    beside.chmod(0o755)
    env = without_python(COHORT_LIBRARY=str((support.BUILD / "libcohort.so").resolve()))
    with Probe(address=clean.address, env=env, program=probe_there) as probe:
        assert probe.start.get("ready"), probe.start
        environ = pathlib.Path(f"/proc/{probe.sidecar()}/environ").read_bytes().split(b"\0")
        assert b"BESIDE=yes" in environ
