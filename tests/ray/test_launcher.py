# SPDX-License-Identifier: Apache-2.0
"""What the launcher says and does where something is not as it should be."""
from __future__ import annotations

import ctypes
import os
import pathlib
import subprocess
import time
from typing import Any

import pytest
import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

import support
from support import Cluster, Probe

from cohort_ray import actor


@pytest.fixture(name="group")
def of_two(clean: Cluster) -> Any:  # pylint: disable=unused-argument
    """Two bundles of somebody else's."""
    made = placement_group([{"CPU": 1}] * 2)
    assert made.wait(30)
    yield made
    remove_placement_group(made)


def test_what_ray_sets_in_a_worker_is_not_its_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the raylet's own environment cannot be read, as that of another user's."""
    monkeypatch.setenv("RAY_RAYLET_PID", "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "3")
    found = actor.look(["OMP_NUM_THREADS", "MALLOC_ARENA_MAX"], [])
    assert found["env"] == {"MALLOC_ARENA_MAX": "3"}


def test_group_id_that_nobody_has_is_refused_at_once(clean: Cluster) -> None:
    from_s = time.monotonic()
    nobody = "0" * 36
    with Probe(address=clean.address, group=nobody, placement_ms=100_000) as probe:
        assert f"no placement group '{nobody}'" in probe.start["error"]
    assert time.monotonic() - from_s < 60


def test_group_that_was_removed_is_refused_at_once(clean: Cluster, group: PlacementGroup) -> None:
    remove_placement_group(group)
    with Probe(address=clean.address, group=group.id.hex(), placement_ms=100_000) as probe:
        assert group.id.hex() in probe.start["error"] and "removed" in probe.start["error"]


def test_bundle_in_use_is_named(clean: Cluster, group: PlacementGroup) -> None:
    """An actor for which its bundle has no room waits for ever, as far as Ray is concerned."""
    @ray.remote(num_cpus=1, scheduling_strategy=PlacementGroupSchedulingStrategy(group, 1))
    class Holder:
        """Of the second bundle."""

        def is_here(self) -> bool:
            """Once it is."""
            return True

    holder = Holder.remote()
    assert ray.get(holder.is_here.remote())
    error = support.error_in_time("1 of 2 actors", "connect_ms", address=clean.address,
                                  group=group.id.hex())
    assert "1 of 2 actors" in error and "rank 1 (bundle 1 on 127.0.0.2)" in error, error
    assert "rank 0" not in error
    ray.kill(holder)


def test_library_missing_on_a_node_is_named(clean: Cluster) -> None:
    """The commonest mistake: the cause stands at the end of a page of Ray's."""
    env = support.environment(COHORT_LIBRARY="/nowhere/libcohort.so")
    with Probe(address=clean.address, env=env) as probe:
        error = probe.start["error"]
        assert "/nowhere/libcohort.so: cannot open shared object file" in error, error
        assert "rank" in error and "127.0.0.2" in error and "\x1b" not in error


# Of the right build, and never a rank.
NEVER_A_RANK = """#include <stddef.h>
#include <unistd.h>
const char *cohort_ray_actor_build_id(void) { return "%s"; }
int cohort_ray_actor_run(const char *spec, const char *env, char *text, size_t size) {
    return sleep(1000);
}
int cohort_ray_actor_step(void) { return -1; }
"""


def test_rank_that_does_not_connect_is_named(clean: Cluster, tmp_path: pathlib.Path) -> None:
    own = ctypes.CDLL(str(support.BUILD / "libcohort.so"))
    own.cohort_ray_actor_build_id.restype = ctypes.c_char_p
    library = tmp_path / "libcohort.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", library], check=True, text=True,
                   input=NEVER_A_RANK % own.cohort_ray_actor_build_id().decode())
    env = support.environment(COHORT_LIBRARY=str(library))
    error = support.error_in_time("2 of 2 ranks have not connected", "connect_ms",
                                  address=clean.address, env=env)
    assert "2 of 2 ranks have not connected" in error, error
    assert "rank 0 (bundle 0 on 127.0.0.2), rank 1 (bundle 1 on 127.0.0.2)" in error
    assert "do they reach 127.0.0.2?" in error


def test_several_clusters_are_one_error_that_says_so(clean: Cluster) -> None:
    """Ray would take any one of them."""
    with support.cluster(cpus=1, gpus=0) as other:
        assert other.address != clean.address
        with Probe() as probe:
            error = probe.start["error"]
            assert "clusters run on this host" in error and "--ray-address" in error, error


# ---- why a rank is gone ---------------------------------------------------------------------


def failure_of(probe: Probe) -> str:
    said = probe.next()
    assert said["did"] == "callback", said
    assert "error" in probe.ask("shutdown")
    return str(said["error"])


def test_group_removed_under_the_ranks_is_told(clean: Cluster, group: PlacementGroup) -> None:
    with Probe(address=clean.address, group=group.id.hex()) as probe:
        probe.tell("register")
        remove_placement_group(group)
        error = failure_of(probe)
        assert "vanished" in error and "placement group was removed" in error, error


def test_rays_kill_by_a_stranger_is_told(clean: Cluster) -> None:
    with Probe(address=clean.address, namespace="watch") as probe:
        probe.tell("register")
        (name,) = [actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)
                   if actor["name"].startswith("cohort_Worker_") and "TP1" in actor["name"]]
        ray.kill(ray.get_actor(name, namespace="watch"))
        error = failure_of(probe)
        assert "rank 1" in error and "ray.kill" in error, error


# ---- environment ------------------------------------------------------------------------------


def at_start(pid: int) -> dict[bytes, bytes]:
    """Of a process, when it was started."""
    lines = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return dict(line.split(b"=", 1) for line in lines if b"=" in line)  # type: ignore[misc]


def test_variable_that_is_no_utf8_is_left_out_and_named(clean: Cluster) -> None:
    env = support.environment(COHORT_LOGGING_LEVEL="info", LATIN=os.fsdecode(b"h\xf6he"))
    with Probe(address=clean.address, env=env) as probe:
        assert probe.start.get("ready"), probe.start
        assert probe.said().count("event=environment_left_out names=LATIN ") == 1


def test_large_environment_goes_out_once(clean: Cluster) -> None:
    """In every rank's spec it was longer than a message may be."""
    large = {f"LARGE_{i}": "x" * 100_000 for i in range(11)}
    with Probe(address=clean.address, tp=4, env=support.environment(**large)) as probe:
        assert probe.start.get("ready"), probe.start


def test_what_a_node_has_of_its_own_stays(clean: Cluster) -> None:  # pylint: disable=unused-argument
    """R9, R11 for what precedes a process's start, too."""
    there = str(support.BUILD)
    env = support.environment(OMP_NUM_THREADS="3", MALLOC_ARENA_MAX="3", OMP_PROC_BIND="true",
                              LD_LIBRARY_PATH=f"/nowhere/lib:{there}")
    with support.cluster(OMP_NUM_THREADS="7", MALLOC_ARENA_MAX="") as node:
        with Probe(address=node.address, env=env) as probe:
            assert probe.start.get("ready"), probe.start
            for pid in probe.pids:
                own = at_start(pid)
                assert own[b"OMP_NUM_THREADS"] == b"7"
                assert own[b"MALLOC_ARENA_MAX"] == b""
                assert own[b"OMP_PROC_BIND"] == b"true"
                assert own[b"LD_LIBRARY_PATH"] == there.encode()


# ---- waiting ----------------------------------------------------------------------------------


def test_command_shows_what_it_waits_for(clean: Cluster) -> None:
    """Without any flag, on standard error; and it goes on as soon as there is room."""
    taken = placement_group([{"CPU": 7}])
    assert taken.wait(30)
    command = [str(support.COHORT), "generate", str(support.MODEL), "--skip-tokenizer-init", "-tp",
               "2", "--prompt-token-ids", "1,5,9", "--max-tokens", "2", "--json",
               "--distributed-executor-backend", "ray", "--ray-address", clean.address]
    with subprocess.Popen(command, env=support.environment(), stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr
        shown = process.stderr.readline()
        remove_placement_group(taken)
        out, said = process.communicate(timeout=support.READY_S)
    assert "event=waiting" in shown and "2 bundles of {CPU: 1}" in shown, shown
    assert "the cluster has 8 CPU, of which 1 are free" in shown
    assert process.returncode == 0 and '"token_ids"' in out, said
