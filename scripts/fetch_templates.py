#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints the folder of the chat templates that llama.cpp carries, out of PyPI's source
distribution of llama-cpp-python, after obtaining them if need be.  They are for tests to
compare with, and stay outside of the tree.
"""
import ast
import hashlib
import html
import io
import os
import pathlib
import re
import ssl
import subprocess
import sys
import tarfile
import tempfile
import urllib.parse
import urllib.request

PACKAGE, VERSION = "llama-cpp-python", "0.3.16"
SUM = "34ed0f9bd9431af045bb63d9324ae620ad0536653740e9bb163a2e1fcb973be6"
PATIENCE_S = 60


def setting(name):
    """Of pip, which knows where packages come from and whom to trust."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True,
                            text=True, check=True).stdout
    found = dict(line.split("=", 1) for line in listed.splitlines())
    value = found.get(f":env:.{name}") or found.get(f"global.{name}")
    return value and ast.literal_eval(value)


def index_url():
    from pip._internal.models.index import PyPI
    return setting("index-url") or PyPI.simple_url


def fetch(url):
    trusted = ssl.create_default_context(cafile=setting("cert"))
    with urllib.request.urlopen(url, timeout=PATIENCE_S, context=trusted) as answer:
        return answer.read()


def source_distribution():
    page = index_url().rstrip("/") + f"/{PACKAGE}/"
    name = f"{PACKAGE.replace('-', '_')}-{VERSION}.tar.gz"
    for link in re.findall(r'href="([^"]+)"', fetch(page).decode()):
        url = urllib.parse.urljoin(page, html.unescape(link))
        if urllib.parse.urlparse(url).path.endswith(f"/{name}"):
            return fetch(url)
    raise OSError(f"the index has no {name}")


def main():
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    folder = cache / "cohort" / f"templates-{VERSION}"
    if not folder.exists():
        data = source_distribution()
        if (found := hashlib.sha256(data).hexdigest()) != SUM:
            sys.exit(f"fetch_templates: {PACKAGE} {VERSION} has digest {found}, not {SUM}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as made:
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                for member in archive:
                    path = pathlib.PurePath(member.name)
                    if path.match("*/models/templates/*.jinja") and member.isfile():
                        text = archive.extractfile(member).read()
                        (pathlib.Path(made) / path.name).write_bytes(text)
            pathlib.Path(made).chmod(0o755)
            try:
                pathlib.Path(made).rename(folder)
                pathlib.Path(made).mkdir()  # for who removes it
            except OSError:
                assert folder.exists()  # another was first
    print(folder)


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(f"fetch_templates: {PACKAGE} {VERSION} cannot be had: {error}")
