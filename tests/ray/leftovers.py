# SPDX-License-Identifier: Apache-2.0
"""What an executor on Ray has that could outlive it, seen from outside: processes, sockets, files,
and what Ray itself knows, which are actors and placement groups."""
from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import support

EMPTY = """
import ray, sys
ray.init(address=sys.argv[1], namespace="empty", logging_level="ERROR", log_to_driver=False)
ray.shutdown()
"""


def sockets_of(pids: Iterable[int]) -> set[str]:
    """Unix and TCP, by inode."""
    found = set()
    for pid in pids:
        for entry in pathlib.Path(f"/proc/{pid}/fd").glob("*"):
            try:
                target = str(entry.readlink())
            except OSError:
                continue
            if target.startswith("socket:"):
                found.add(target[8:-1])
    return found


def open_sockets(pid: int | str = "self") -> set[str]:
    """Of the network that a process lives in, whoever holds them."""
    found = set()
    for kind, column in (("unix", 6), ("tcp", 9), ("tcp6", 9)):
        table = pathlib.Path(f"/proc/{pid}/net/{kind}").read_text(encoding="utf-8")
        found |= {line.split()[column] for line in table.splitlines()[1:]}
    return found - {"0"}


def listening_ports(pids: list[int]) -> set[tuple[str, int]]:
    """TCP ports that these processes hold, with the network that each is of."""
    own = sockets_of(pids)
    networks = {os.readlink(f"/proc/{pid}/ns/net"): pid for pid in pids}
    found = set()
    for network, pid in networks.items():
        for kind in ("tcp", "tcp6"):
            table = pathlib.Path(f"/proc/{pid}/net/{kind}").read_text(encoding="utf-8")
            for words in map(str.split, table.splitlines()[1:]):
                if words[3] == "0A" and words[9] in own:
                    found.add((network, int(words[1].rsplit(":", 1)[1], 16)))
    return found


def files_in(*folders: pathlib.Path) -> set[str]:
    """Files and sockets, but not Ray's logs, which every driver leaves."""
    return {str(path) for folder in folders for path in folder.rglob("*")
            if "logs" not in path.parts and (path.is_symlink() or not path.is_dir())}


def general(path: str) -> str:
    """Without the numbers in it."""
    return re.sub(r"[0-9a-f]{6,}|\d+", "#", path)


class Watch:
    """A cluster, and a folder that drivers which are started with env leave their files in."""

    def __init__(self, address: str, folder: pathlib.Path, folders: Iterable[pathlib.Path],
                 ask: Callable[[], set[str]] = set) -> None:
        self.address = address
        self.folders = (folder, *folders)
        self.ask = ask  # actors and groups; the standard is that nobody can
        self.networks: list[int | str] = ["self"]  # a process in each
        self.inside: list[str] = []
        self.outside: Callable[[dict[str, Any]], int] = lambda rank: int(rank["pid"])
        self.options: dict[str, object] = {"address": address}
        self.env = support.environment(TMPDIR=str(folder), XDG_RUNTIME_DIR=str(folder))
        self.files: set[str] = set()
        self.of_empty: set[str] = set()
        self.ray: set[str] = set()

    def learn(self) -> Watch:
        """What is there before, and what an empty driver leaves."""
        before = files_in(*self.folders)
        subprocess.run([*self.inside, sys.executable, "-c", EMPTY, self.address], env=self.env,
                       check=True)
        self.files = files_in(*self.folders)
        self.of_empty = {general(path) for path in self.files - before}
        self.ray = self.ask()
        return self

    def probe(self, **options: object) -> Traced:
        """An executor, whose traces are known from here on."""
        return Traced(self, **options)


class Traced(support.Probe):
    """An executor, and what it had."""

    def __init__(self, watch: Watch, env: dict[str, str] | None = None, **options: object) -> None:
        super().__init__(inside=watch.inside, env={**watch.env, **(env or {})},
                         **{**watch.options, **options})
        self.watch = watch
        self.everybody: list[int] = []  # ranks, then the sidecar, as this host numbers them
        self.sockets: set[str] = set()
        if self.start.get("ready"):
            self._look()

    def _look(self) -> None:
        """Nothing is said of what was never seen."""
        self.everybody = [*map(self.watch.outside, self.ranks), self.sidecar()]
        below = support.descendants(self.process.pid)
        self.sockets = sockets_of([*self.everybody, *below, self.process.pid])
        assert len(self.sockets & self._open_sockets()) > len(self.ranks)
        assert pathlib.Path(self.start["counters"]).exists()

    def _open_sockets(self) -> set[str]:
        return set().union(*map(open_sockets, self.watch.networks))

    def left(self, may_leave: Iterable[str] = ()) -> list[str]:
        """Of it, now; Ray is asked last, as that may take its time."""
        found = [f"process {pid}" for pid in self.everybody if support.is_alive(pid)]
        found += [f"socket {inode}" for inode in sorted(self.sockets & self._open_sockets())]
        files = files_in(*self.watch.folders) - self.watch.files - set(may_leave)
        found += sorted(f"file {path}" for path in files
                        if general(path) not in self.watch.of_empty)
        return found or sorted(self.watch.ask() - self.watch.ray)

    def check_nothing_left(self, until: float, may_leave: Iterable[str] = ()) -> None:
        """At that time at the latest."""
        support.await_none(lambda: self.left(may_leave), until)

    def end(self, seconds: float) -> None:
        """It has failed: nothing is left so much later, though its driver lives, and the callback is
        called no second time."""
        until = time.monotonic() + seconds
        self.tell("shutdown")
        self.tell("destroy")
        self.check_nothing_left(until)
        assert support.is_alive(self.process.pid)
        lines = self.rest()
        assert [line["did"] for line in lines] == ["shutdown", "destroy"], lines
        assert "error" in lines[0], lines
