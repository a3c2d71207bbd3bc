# SPDX-License-Identifier: Apache-2.0
"""What Cohort runs inside Ray: a sidecar that is the only Ray driver, and its actors; and LLM,
a model for programs that run in Ray already.

No rule is here: src/ray/ray.c decides, this asks the cluster and carries out.
"""
from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cohort_ray.llm import LLM, CohortError, CompletionOutput, RequestOutput

__all__ = ["LLM", "CohortError", "CompletionOutput", "RequestOutput"]


def __getattr__(name: str) -> Any:
    """The sidecar needs none of it, and starts while somebody waits."""
    if name in __all__:
        return getattr(importlib.import_module("cohort_ray.llm"), name)
    raise AttributeError(f"module 'cohort_ray' has no attribute '{name}'")
