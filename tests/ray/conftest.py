# SPDX-License-Identifier: Apache-2.0
"""One cluster for all tests that leave it as it was, and a look at whether they did."""
from __future__ import annotations

import pathlib
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import pytest

import support  # before ray, which reads the environment when it is imported

import ray  # pylint: disable=wrong-import-order
from ray.util.placement_group import placement_group_table


@pytest.fixture(scope="session")
def node() -> Iterator[support.Cluster]:
    """Eight CPUs and four GPUs, as far as Ray knows; we watch it as one of its drivers."""
    with tempfile.TemporaryDirectory(prefix="ry", ignore_cleanup_errors=True) as folder:
        made = support.Cluster(folder)
        ray.init(address=made.address, namespace="watch", logging_level="ERROR",
                 log_to_driver=False)
        yield made
        ray.shutdown()
        made.stop()


def of_ours() -> list[str]:
    """Actors by name, groups that still hold something, counters of dead or living drivers."""
    actors = [a["name"] for a in ray.util.list_named_actors(all_namespaces=True)]
    groups: dict[str, dict[str, Any]] = placement_group_table()
    held = [key for key, group in groups.items() if group["state"] != "REMOVED"]
    return [name for name in actors if name.startswith("cohort_")] + held


@pytest.fixture
def clean(node: support.Cluster) -> Iterator[support.Cluster]:  # pylint: disable=redefined-outer-name
    """The node, on which nothing is left two seconds after the test."""
    before = set(of_ours())
    files = pathlib.Path(tempfile.gettempdir()).glob("cohort-*/*.stat")
    known = set(files)
    yield node
    until = time.monotonic() + 2
    while (left := set(of_ours()) - before) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left
    files = pathlib.Path(tempfile.gettempdir()).glob("cohort-*/*.stat")
    # Others run on this machine too; a file of one that is gone is what must not be.
    assert not [f for f in set(files) - known if not support.is_alive(int(f.name.split("-")[0]))]
