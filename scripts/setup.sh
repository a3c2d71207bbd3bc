#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: setup.sh [--build] [PACKAGE]... - installs the Debian packages that building and testing need,
# and those named, where they are missing; with --build only what the command and its model need.
set -euo pipefail

packages=(gcc libc6-dev cmake ninja-build pkg-config libcjson-dev libpcre2-dev libutf8proc-dev
    libsodium-dev libmicrohttpd-dev libcurl4-openssl-dev libgnutls28-dev libyaml-dev
    python3 python3-venv)
if [ "${1-}" = --build ]; then
    shift
else
    packages+=(g++ clang libclang-rt-14-dev libcmocka-dev libopenblas-dev xz-utils)
fi
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
