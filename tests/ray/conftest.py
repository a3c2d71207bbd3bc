# SPDX-License-Identifier: Apache-2.0
"""One cluster for all tests that leave it as it was, and a look at whether they did."""
from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from _pytest.runner import runtestprotocol

import support  # before ray, which reads the environment when it is imported

import ray  # pylint: disable=wrong-import-order

from books import of_ray


def is_late(reports: list[pytest.TestReport]) -> bool:
    """It has failed, and by nothing else."""
    failed = [report for report in reports if report.failed]
    return bool(failed) and all("support.Late: " in report.longreprtext for report in failed)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """What is late by our own doing is so each time."""
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for tried in range(support.TRIES):
        if tried:
            item.warn(pytest.PytestWarning("late, and run again"))
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        if not is_late(reports):
            break
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


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
    support.await_none(lambda: of_ray() - before, time.monotonic() + 2 * support.PATIENCE)
    # Of a driver that runs still they are its own; of one that is gone they must not be.
    assert not [pid for pid in support.counted() if not support.is_alive(pid)]
