# SPDX-License-Identifier: Apache-2.0
"""One rank on Ray: an actor that hands its process to libcohort."""
from __future__ import annotations

import ctypes
import os
import pathlib
import threading
from typing import Any

LAST_BYTES = 8192
NO_REPLY = b"-"  # no bytes at all never arrive at another node, with Ray 2.60
RUNS = "runs"  # the thread of run() where a compiled graph has the others
LINGER_S = 1.5  # of a rank that is at its end, for its status to be fetched


def find_library(drivers: str) -> str:
    """COHORT_LIBRARY, else that of this node's wheel, else at the path where the driver has it."""
    named = os.environ.get("COHORT_LIBRARY")
    if named:
        return named
    # This came here by value: only the node knows whether and where the package lies on it.
    try:
        import cohort_ray
    except ImportError:
        return drivers
    own = pathlib.Path(cohort_ray.__file__).parent / "lib" / "libcohort.so"
    return str(own) if own.exists() else drivers


def look(names: list[str], paths: list[str]) -> dict[str, Any]:
    """What this node has of its own: its raylet's environment, which Ray adds to in a worker's."""
    try:
        raylet = os.environ["RAY_RAYLET_PID"]
        text = pathlib.Path(f"/proc/{raylet}/environ").read_bytes().decode(errors="replace")
        own = dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)
    except (KeyError, OSError):
        # Ours comes from there, but for this, which Ray sets in every worker.
        own = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return {
        "env": {name: own[name] for name in names if name in own},
        "there": [path for path in paths if os.path.exists(path)],
    }


def last_lines(pid: int, count: int) -> list[str]:
    """What a worker of this node wrote at the end, as Ray keeps it."""
    import ray

    node: Any = ray._private.worker._global_node
    lines: list[str] = []
    for file in pathlib.Path(node.get_logs_dir_path()).glob(f"worker-*-{pid}.err"):
        with file.open("rb") as kept:
            kept.seek(max(file.stat().st_size - LAST_BYTES, 0))
            lines += kept.read().decode(errors="replace").splitlines()
    return [line for line in lines if not line.startswith(":")][-count:]  # Ray's marks


class Worker:
    """Light until run(): where it came to sit is asked before anything is decided."""

    def __init__(self, library: str) -> None:
        self._loaded = ctypes.CDLL(find_library(library))
        self._loaded.cohort_ray_actor_build_id.restype = ctypes.c_char_p
        self._step = self._loaded.cohort_ray_actor_step
        self._step.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p]

    def seat(self, key: str) -> dict[str, Any]:
        """Node, pid, build, and the devices of that resource that Ray gave us."""
        import ray

        context = ray.get_runtime_context()
        devices = context.get_accelerator_ids().get(key, [])
        return {
            "node": context.get_node_id(),
            "pid": os.getpid(),
            "build": self._loaded.cohort_ray_actor_build_id().decode(),
            "devices": [str(device) for device in devices],
        }

    def step(self, call: bytes) -> bytes:
        """One call of a compiled graph, beside run(): the rank's reply, or NO_REPLY.  Of a rank
        that has ended others tell."""
        start, size = ctypes.c_void_p(), ctypes.c_size_t()
        self._step(call, len(call), ctypes.byref(start), ctypes.byref(size))
        return ctypes.string_at(start.value, size.value) if start.value else NO_REPLY

    def run(self, spec: str, env: str) -> tuple[int, str]:
        """The rank's whole life, in C, without the GIL; a status and its text."""
        text = ctypes.create_string_buffer(512)
        run = self._loaded.cohort_ray_actor_run
        run.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]
        run.restype = ctypes.c_int
        status = run(spec.encode(), env.encode(), text, len(text))
        # The sidecar has Ray end this process.  Where it cannot, as the sidecar is gone and the
        # raylet cut off or stopped, nobody else would.
        end = threading.Timer(LINGER_S, os._exit, [0])
        end.daemon = True
        end.start()
        return status, text.value.decode(errors="replace")
