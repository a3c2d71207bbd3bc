# SPDX-License-Identifier: Apache-2.0
"""For tests that need packages of others: they run in a Python that has them."""
import os
import pathlib
import subprocess
import sys

SOURCE = pathlib.Path(__file__).resolve().parents[2]
DONE = "COHORT_TEST_VENV"  # the kind that we are in


def go_on_in(kind):
    """From the top again, in that of scripts/test_venv.sh; skipped where it cannot be made."""
    if os.environ.get(DONE) == kind:
        return
    made = subprocess.run([SOURCE / "scripts/test_venv.sh", kind], stdout=subprocess.PIPE,
                          text=True, check=False)
    if made.returncode:
        sys.exit(77)
    os.environ[DONE] = kind
    os.execv(made.stdout.strip(), [made.stdout.strip(), *sys.argv])
