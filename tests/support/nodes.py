# SPDX-License-Identifier: Apache-2.0
"""Hosts that share nothing but a network: namespaces that are made, entered and removed.

Each node has its own network (10.77.0.N on a bridge that is a namespace too), pid, ipc and mount
namespaces, and its own /dev/shm.  Nothing of the host's network is touched.  What a run that was
killed left behind is removed by the next.
"""
from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import time

PREFIX = "cohort-"
NETWORK = "10.77.0"


def sh(*words: str) -> None:
    """A command that must succeed; what it says belongs into the error."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")


def sweep() -> None:
    """Namespaces of a test that is gone: their names hold its pid."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    for line in listed.stdout.splitlines():
        name = line.split()[0]
        owner = name.removeprefix(PREFIX).split("-")[0]
        if not name.startswith(PREFIX) or not owner.isdigit():
            continue
        if not pathlib.Path(f"/proc/{owner}").exists():
            found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True,
                                   check=False)
            for pid in found.stdout.split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            subprocess.run(["ip", "netns", "delete", name], check=False)


class Node:
    """One host; its first process keeps the namespaces and does nothing."""

    def __init__(self, switch: str, name: str, number: int) -> None:
        self.name = name
        self.address = f"{NETWORK}.{number}"
        port = f"p{number}"
        sh("ip", "netns", "add", name)
        sh("ip", "link", "add", port, "netns", switch, "type", "veth", "peer", "name", "eth0",
           "netns", name)
        sh("ip", "-n", switch, "link", "set", port, "master", "br0", "up")
        sh("ip", "-n", name, "address", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            sh("ip", "-n", name, "link", "set", device, "up")
        sh("ip", "-n", name, "route", "add", "default", "via", f"{NETWORK}.254")
        self.keeper = subprocess.Popen(
            ["ip", "netns", "exec", name, "unshare", "--fork", "--kill-child", "--pid", "--ipc",
             "--mount", "--mount-proc", "sh", "-c",
             "mount -t tmpfs -o size=512m none /dev/shm && echo up && exec sleep infinity"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True,
        )
        assert self.keeper.stdout and self.keeper.stdout.readline() == b"up\n"
        (self.init,) = self._children(self.keeper.pid)
        self.enter = ["nsenter", "-t", str(self.init), "-n", "-p", "-i", "-m"]

    @staticmethod
    def _children(pid: int) -> list[int]:
        text = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
        return [int(word) for word in text.split()]

    def bind(self, folder: pathlib.Path, path: pathlib.Path) -> None:
        """Shows a folder or file at another path, there alone."""
        sh(*self.enter, "mount", "--bind", str(folder), str(path))

    def unbind(self, path: pathlib.Path) -> None:
        """Shows again what is there."""
        sh(*self.enter, "umount", str(path))

    def processes(self, name: str) -> list[int]:
        """By the name of their program: raylet, gcs_server."""
        found = []
        for pid in self.pids():
            with contextlib.suppress(OSError):  # it is gone meanwhile, or a zombie
                if pathlib.Path(os.readlink(f"/proc/{pid}/exe")).name == name:
                    found.append(pid)
        return found

    def pids(self) -> list[int]:
        """All of its processes, as the host numbers them."""
        own = os.readlink(f"/proc/{self.init}/ns/pid")
        found = []
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(entry / "ns/pid") == own:
                    found.append(int(entry.name))
        return found

    def outside(self, pid: int) -> int:
        """The host's number of a process that calls itself so there."""
        for candidate in self.pids():
            with contextlib.suppress(OSError):
                status = pathlib.Path(f"/proc/{candidate}/status").read_text(encoding="utf-8")
                (line,) = [text for text in status.splitlines() if text.startswith("NSpid:")]
                if int(line.split()[-1]) == pid:
                    return candidate
        raise LookupError(f"{self.name} has no process {pid}")

    def cut(self, is_cut: bool = True) -> None:
        """Takes its cable out, or puts it back."""
        sh("ip", "-n", self.name, "link", "set", "eth0", "down" if is_cut else "up")

    def bar(self, address: str, is_barred: bool = True) -> None:
        """From one other host: what goes there does not leave."""
        sh("ip", "-n", self.name, "route", "add" if is_barred else "delete", "unreachable",
           f"{address}/32")

    def remove(self) -> None:
        """With all that runs there: the end of its first process is the end of the rest."""
        self.keeper.kill()
        self.keeper.wait()
        until = time.monotonic() + 5
        while self.pids_of_network() and time.monotonic() < until:
            time.sleep(0.02)
        sh("ip", "netns", "delete", self.name)

    def pids_of_network(self) -> list[str]:
        """What still holds its network."""
        found = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True,
                               check=False)
        return found.stdout.split()


class Network:
    """Some nodes on one switch; a context manager."""

    made = 0

    def __init__(self, count: int) -> None:
        sweep()
        Network.made += 1
        own = f"{PREFIX}{os.getpid()}-{Network.made}"
        self.nodes: list[Node] = []
        self.switch = f"{own}-switch"
        sh("ip", "netns", "add", self.switch)
        try:
            sh("ip", "-n", self.switch, "link", "add", "br0", "type", "bridge")
            sh("ip", "-n", self.switch, "link", "set", "br0", "up")
            for number in range(1, count + 1):
                self.nodes.append(Node(self.switch, f"{own}-node{number}", number))
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Leaves nothing."""
        for node in self.nodes:
            node.remove()
        sh("ip", "netns", "delete", self.switch)

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()
