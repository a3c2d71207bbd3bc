# SPDX-License-Identifier: Apache-2.0
"""cohort_ray.LLM: from a driver, from an actor in a placement group, and under Ray Data."""
from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray.util.placement_group import (
    PlacementGroup, placement_group, placement_group_table, remove_placement_group,
)
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from support import (
    COHORT, END_S, MODEL, PATIENCE, ROOT, Cluster, await_gone, check_gone, counted, environ_of,
    environment,
)

from cohort_ray import LLM, CohortError

PROMPT = [1, 5, 9, 200, 17, 3]
GREEDY: dict[str, Any] = {"max_tokens": 8, "temperature": 0, "ignore_eos": True}
SKIP: dict[str, Any] = {"skip_tokenizer_init": True, "disable_uvicorn_access_log": True}


@pytest.fixture(name="expected")
def without_ray() -> Iterator[list[int]]:
    """What one process says without Ray."""
    yield generate_alone()


@pytest.fixture
def swept(clean: Cluster) -> Iterator[Cluster]:
    """Ray ends a dead actor's children with SIGKILL: the next start sweeps their counters."""
    yield clean
    await_gone(counted(), END_S)
    generate_alone()


def generate_alone() -> list[int]:
    """With one thread of one process."""
    done = subprocess.run(
        [str(COHORT), "generate", str(MODEL), "--skip-tokenizer-init", "--prompt-token-ids",
         ",".join(map(str, PROMPT)), "--max-tokens", "8", "--temperature", "0", "--ignore-eos",
         "--json"], env=environment(), capture_output=True, text=True, check=True)
    ids: list[int] = json.loads(done.stdout)["token_ids"]
    return ids


@ray.remote
class Replica:
    """A user's actor that has a model."""

    def __init__(self, world: int) -> None:
        self.llm = LLM(MODEL, tensor_parallel_size=world, **SKIP)

    def tokens(self) -> list[int]:
        """Greedy."""
        return self.llm.generate([PROMPT], **GREEDY)[0].outputs[0].token_ids

    def pids(self) -> tuple[int, int]:
        """Its own and the command's."""
        return os.getpid(), self.llm._process.pid  # pylint: disable=protected-access


@ray.remote
def tokens_of_a_task(world: int) -> list[int]:
    """A user's function that has a model for as long as it runs."""
    with LLM(MODEL, tensor_parallel_size=world, **SKIP) as llm:
        return llm.generate([PROMPT], **GREEDY)[0].outputs[0].token_ids


def nobody_has_room(group: PlacementGroup) -> bool:
    """Every bundle of the group is in use."""
    free = ray.available_resources()
    return not [name for name in free if name.startswith("CPU_group_") and group.id.hex() in name]


def test_llm_of_a_driver(clean: Cluster, expected: list[int]) -> None:
    del clean
    with LLM(MODEL, tensor_parallel_size=2, **SKIP) as llm:
        outputs = llm.generate([PROMPT, PROMPT[:3], PROMPT], **GREEDY)
        assert [output.prompt for output in outputs] == [PROMPT, PROMPT[:3], PROMPT]
        for output in (outputs[0], outputs[2]):
            assert [one.token_ids for one in output.outputs] == [expected]
            assert output.outputs[0].finish_reason == "length"
        drawn = llm.generate([PROMPT, PROMPT], n=3, max_tokens=8, temperature=1, seed=1)
        assert [[one.index for one in output.outputs] for output in drawn] == [[0, 1, 2]] * 2
        assert not llm.generate([])
        with pytest.raises(ValueError, match="max_tokens"):
            llm.generate([PROMPT], max_tokens=-1)
    llm.shutdown()  # again: nothing
    with pytest.raises(CohortError):
        llm.generate([PROMPT])


def test_llm_that_cannot_start_says_why(clean: Cluster) -> None:
    del clean
    with pytest.raises(CohortError, match="no directory here, and no name"):
        LLM("./no-such-model")
    with pytest.raises(CohortError, match="tensor-parallel-size"):
        LLM(MODEL, tensor_parallel_size=0)


def test_words_that_are_no_utf8_are_read(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the command says is cut at bytes: it is read to its end all the same."""
    command = tmp_path / "cohort"
    command.write_text("#!/bin/sh\nprintf 'cohort: h\\303\\ncohort: last word\\n' >&2\nexit 1\n",
                       encoding="utf-8")
    command.chmod(0o700)
    monkeypatch.setenv("COHORT_COMMAND", str(command))
    with pytest.raises(CohortError, match="last word"):
        LLM(MODEL, distributed_executor_backend="mp")


@pytest.mark.parametrize("own_cpus, index", [(0, -1), (1, 1)])
def test_llm_of_an_actor_is_in_its_group(
    swept: Cluster, expected: list[int], own_cpus: int, index: int
) -> None:
    """Also where the actor has one of the bundles itself, and of it what no rank can ask for."""
    del swept
    bundles = [{"CPU": 1}] * (2 + own_cpus)
    bundles[index] = {"CPU": 1, "disk/fast": 1}
    group = placement_group(bundles)
    ray.get(group.ready())
    replica = Replica.options(  # type: ignore[attr-defined]
        num_cpus=own_cpus, resources={"disk/fast": own_cpus} if own_cpus else None,
        scheduling_strategy=PlacementGroupSchedulingStrategy(
            group, placement_group_bundle_index=index),
    ).remote(2)
    assert ray.get(replica.tokens.remote()) == expected
    assert nobody_has_room(group)
    pids = ray.get(replica.pids.remote())
    ray.kill(replica)
    check_gone(pids, 10 * PATIENCE)  # the command goes with its actor
    remove_placement_group(group)


def test_llm_of_a_task(swept: Cluster, expected: list[int]) -> None:
    """Alone, and in a group that it captures."""
    del swept
    assert ray.get(tokens_of_a_task.options(num_cpus=0).remote(2)) == expected
    group = placement_group([{"CPU": 1}] * 2)
    strategy = PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=True)
    ref = tokens_of_a_task.options(num_cpus=0, scheduling_strategy=strategy).remote(2)
    assert ray.get(ref) == expected
    remove_placement_group(group)


def test_llm_in_the_group_that_it_is_given(clean: Cluster, expected: list[int]) -> None:
    """Which stays when it goes."""
    del clean
    group = placement_group([{"CPU": 1}] * 2)
    ray.get(group.ready())
    with LLM(MODEL, tensor_parallel_size=2, placement_group=group, **SKIP) as llm:
        assert nobody_has_room(group)
        assert llm.generate([PROMPT], **GREEDY)[0].outputs[0].token_ids == expected
    assert placement_group_table(group)["state"] == "CREATED"
    remove_placement_group(group)


def test_runtime_env_of_the_actor_reaches_the_ranks(swept: Cluster, expected: list[int]) -> None:
    """vLLM's test_env_var_and_runtime_env_propagation: the variable that is the surrounding actor's."""
    del swept
    own = {"env_vars": {"OF_THE_ACTOR": "its own", "NCCL_DEBUG": "WARN"}}
    replica = Replica.options(num_cpus=0, runtime_env=own).remote(2)  # type: ignore[attr-defined]
    assert ray.get(replica.tokens.remote()) == expected
    actors = ray._private.state.actors().values()  # pylint: disable=protected-access
    ranks = [actor for actor in actors
             if actor["State"] == "ALIVE" and actor["Name"].startswith("cohort_Worker_")]
    assert len(ranks) == 2
    for rank in ranks:
        found = environ_of(rank["Pid"])
        assert {name: found.get(name) for name in own["env_vars"]} == own["env_vars"]
    ray.kill(replica)


def test_llm_goes_when_its_program_is_killed(swept: Cluster) -> None:
    program = (f"from cohort_ray import LLM\nimport ray, time\nray.init({swept.address!r})\n"
               f"llm = LLM({str(MODEL)!r}, skip_tokenizer_init=True)\n"
               "print(llm._process.pid, flush=True)\ntime.sleep(600)")
    with subprocess.Popen([sys.executable, "-c", program], env=environment(),
                          stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        pid = process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    check_gone([int(pid)], 10 * PATIENCE)


def test_ray_data_example(swept: Cluster) -> None:
    model = os.environ.get("COHORT_TEXT_MODEL") or MODEL
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        prompts = [{"prompt": f"{i} and {i + 1}"} for i in range(20)]
        (folder / "in.jsonl").write_text("\n".join(map(json.dumps, prompts)), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, str(ROOT / "examples/ray_data.py"), str(model),
             str(folder / "in.jsonl"), str(folder / "out")],
            env=environment(RAY_ADDRESS=swept.address), capture_output=True, text=True,
            timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        rows = [json.loads(line) for path in (folder / "out").glob("*.json")
                for line in path.read_text(encoding="utf-8").splitlines()]
    assert sorted(row["prompt"] for row in rows) == sorted(row["prompt"] for row in prompts)
    assert all(isinstance(row["generated"], str) for row in rows)
