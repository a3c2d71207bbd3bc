#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Offline inference with Ray Data: continues every line of a JSON-lines file of {"prompt": ...}.

usage: ray_data.py MODEL INPUT.jsonl OUTPUT_FOLDER     (RAY_ADDRESS says which cluster)

Each replica is an actor in a placement group of its own, on whose bundles LLM puts its ranks.
"""
import sys
from typing import Any

import ray
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cohort_ray import LLM

TENSOR_PARALLEL_SIZE = 2
REPLICAS = 1


class Generate:
    """A model that is loaded once for many batches."""

    def __init__(self, model: str) -> None:
        self.llm = LLM(model, tensor_parallel_size=TENSOR_PARALLEL_SIZE)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        outputs = self.llm.generate(list(batch["prompt"]), max_tokens=8, temperature=0)
        return {**batch, "generated": [output.outputs[0].text for output in outputs]}


def place_replica() -> dict[str, Any]:
    """One bundle for each rank; the replica itself needs none."""
    group = placement_group([{"CPU": 1}] * TENSOR_PARALLEL_SIZE, strategy="PACK")
    return {"scheduling_strategy": PlacementGroupSchedulingStrategy(group)}


def main() -> None:
    model, source, target = sys.argv[1:]
    ray.init(log_to_driver=False)
    ray.data.read_json(source).map_batches(
        Generate, fn_constructor_args=(model,), batch_size=16, num_cpus=0,
        concurrency=REPLICAS, ray_remote_args_fn=place_replica,
    ).write_json(target)


if __name__ == "__main__":
    main()
