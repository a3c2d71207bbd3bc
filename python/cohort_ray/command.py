# SPDX-License-Identifier: Apache-2.0
"""The wheel's `cohort` script: the command that lies beside it, told which Python has Ray."""
from __future__ import annotations

import os
import pathlib
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Becomes the command."""
    command = pathlib.Path(__file__).parent / "bin" / "cohort"
    python = os.environ.get("COHORT_PYTHON") or sys.executable
    os.execve(command, ["cohort", *sys.argv[1:]], {**os.environ, "COHORT_PYTHON": python})
