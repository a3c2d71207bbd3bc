# SPDX-License-Identifier: Apache-2.0
"""Two engines of two ranks that start at the same moment, and what they must not share."""
from __future__ import annotations

import concurrent.futures
import os
import signal
from collections.abc import Callable, Iterable
from typing import TypeVar

import support
from leftovers import listening_ports
from support import Probe

Engine = TypeVar("Engine", bound=Probe)
# R2 to R4: whoever adds to these comes to one port twice.
ENVIRONMENT = {"COHORT_LOGGING_LEVEL": "info", "VLLM_PORT": "29500", "MASTER_PORT": "29500",
               "MASTER_ADDR": "127.0.0.2"}


def start_two(make: Callable[[dict[str, str]], Engine], first: dict[str, str],
              second: dict[str, str]) -> tuple[Engine, Engine]:
    """Each with its options."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        made = [pool.submit(make, options) for options in (first, second)]
        return made[0].result(), made[1].result()


def check_apart(first: Probe, second: Probe, pids_of: Callable[[Probe], list[int]],
                actors: Callable[[], Iterable[str]]) -> None:
    """No process, device, port or name of one is the other's.  pids_of: all of its, rank 0 first;
    actors: the names of all that there are."""
    for probe in (first, second):
        assert probe.start.get("ready"), probe.start
        assert probe.ask("rpc echo 100 10")["replies"] == 2
    pids = [pids_of(probe) for probe in (first, second)]
    assert not set(pids[0]) & set(pids[1])
    ports = [listening_ports(own) for own in pids]
    assert all(len(own) > 2 for own in ports) and not ports[0] & ports[1], ports
    assert not {port for _, port in ports[0] | ports[1]} & set(range(29500, 29600)), ports
    devices = [(rank["node"], rank["devices"]) for probe in (first, second)
               for rank in probe.ranks if rank["devices"]]
    assert len(devices) == len(set(devices)), devices
    ours = [name for name in actors() if name.startswith("cohort_Worker_")]
    assert len(ours) == len(set(ours)) == 4
    os.kill(pids[0][0], signal.SIGKILL)  # what one loses the other keeps
    support.check_gone(pids[0][:1], 5 * support.PATIENCE)
    assert second.ask("rpc echo 100 10")["replies"] == 2
