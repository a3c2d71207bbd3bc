#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""usage: run.py URL MODEL_DIR FOLDER [NAME...] - each NAME_client.py beside this file, all of them by
default, against a server of that model as smollm2: installs the newest packages that its first lines
name in an environment of its own in FOLDER, runs it, and prints the versions.  Fails where one fails.
"""
import os
import pathlib
import re
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
DEADLINE_S = 900


def versions(python, packages):
    names = [re.split(r"[\[=<>]", package)[0] for package in packages]
    code = "import importlib.metadata as m, sys; print(*(f'{n} {m.version(n)}' for n in sys.argv[1:]), sep=', ')"
    return subprocess.run([python, "-c", code, *names], check=True, text=True, stdout=subprocess.PIPE).stdout.strip()


def run(file, url, model, folder):
    packages = re.search(r"^# packages: (.*)$", file.read_text(encoding="utf-8"), re.M).group(1).split()
    venv = folder / file.stem
    python = venv / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade",
                    *packages], check=True)
    begin = time.monotonic()
    variables = {"COHORT_URL": url, "COHORT_MODEL": model, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(HERE)}
    done = subprocess.run([python, file], env=os.environ | variables, text=True, timeout=DEADLINE_S,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    word = "ok" if done.returncode == 0 else "FAILED"
    print(f"{word:6} {versions(python, packages)}: {time.monotonic() - begin:.1f} s", flush=True)
    if done.returncode:
        print(done.stdout[-4000:], flush=True)
    return done.returncode == 0


def main():
    url, model, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    files = sorted(HERE.glob("*_client.py"))
    wanted = [file for file in files if not sys.argv[4:] or file.stem.removesuffix("_client") in sys.argv[4:]]
    return 0 if all([run(file, url, model, folder) for file in wanted]) else 1


if __name__ == "__main__":
    sys.exit(main())
