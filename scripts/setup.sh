#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: setup.sh [PACKAGE]... - installs the Debian packages that building and testing need,
# and those named, where they are missing.
set -euo pipefail

packages=(gcc g++ cmake ninja-build pkg-config clang libclang-rt-14-dev libcjson-dev
    libpcre2-dev libutf8proc-dev libsodium-dev libmicrohttpd-dev libcurl4-openssl-dev libgnutls28-dev
    libyaml-dev
    libcmocka-dev libopenblas-dev xz-utils
    python3 python3-venv)
missing=()
for package in "${packages[@]}" "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
        missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if sudo -n true 2>/dev/null || { [ -t 0 ] && command -v sudo >/dev/null; }; then
        as_root=(sudo)
    else
        echo "Packages are missing; ask an administrator to run:"
        echo "  apt-get install -y ${missing[*]}"
        exit 1
    fi
fi
echo "installing ${missing[*]}"
"${as_root[@]}" apt-get update -q
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -qy --no-install-recommends \
    "${missing[@]}"
