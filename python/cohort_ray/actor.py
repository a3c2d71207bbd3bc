# SPDX-License-Identifier: Apache-2.0
"""One rank on Ray: an actor that hands its process to libcohort."""
from __future__ import annotations

import ctypes
import os
import pathlib
from typing import Any


class Worker:
    """Light until run(): where it came to sit is asked before anything is decided."""

    def __init__(self, library: str) -> None:
        named = os.environ.get("COHORT_LIBRARY")
        own = pathlib.Path(__file__).parent / "lib" / "libcohort.so"
        self._loaded = ctypes.CDLL(named or (str(own) if own.exists() else library))
        self._loaded.cohort_ray_actor_build_id.restype = ctypes.c_char_p

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

    def run(self, spec: str) -> tuple[int, str]:
        """The rank's whole life, in C, without the GIL; a status and its text."""
        text = ctypes.create_string_buffer(512)
        run = self._loaded.cohort_ray_actor_run
        run.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]
        run.restype = ctypes.c_int
        status = run(spec.encode(), text, len(text))
        return status, text.value.decode(errors="replace")
