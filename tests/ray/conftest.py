# SPDX-License-Identifier: Apache-2.0
"""One cluster for all tests that leave it as it was, and a look at whether they did."""
from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

import support  # before ray, which reads the environment when it is imported

import ray  # pylint: disable=wrong-import-order

from books import of_ray


@pytest.fixture(scope="session")
def node() -> Iterator[support.Cluster]:
    """Eight CPUs and four GPUs, as far as Ray knows; we watch it as one of its drivers."""
    with support.cluster() as made:
        ray.init(address=made.address, namespace="watch", logging_level="ERROR",
                 log_to_driver=False)
        yield made
        ray.shutdown()


@pytest.fixture
def clean(node: support.Cluster) -> Iterator[support.Cluster]:  # pylint: disable=redefined-outer-name
    """The node, on which nothing is left two seconds after the test."""
    before = of_ray()
    yield node
    until = time.monotonic() + 2 * support.PATIENCE
    while (left := of_ray() - before) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left
    # Of a driver that runs still they are its own; of one that is gone they must not be.
    assert not [pid for pid in support.counted() if not support.is_alive(pid)]
