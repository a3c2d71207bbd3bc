#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Prints the directory of Debian's prometheus and promtool.  The package is unpacked, with lists of
# its own, and not installed: that would want root and leave a service running.
set -euo pipefail

prometheus=${XDG_CACHE_HOME:-$HOME/.cache}/cohort/prometheus
if [ ! -e "$prometheus" ]; then
    echo "prometheus: fetching Debian's package" >&2
    mkdir -p "$(dirname "$prometheus")"
    work=$(mktemp -d "$prometheus.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    cd "$work"
    mkdir -p lists/partial
    own=(-q -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work" -o APT::Sandbox::User=root)
    apt-get "${own[@]}" update >&2
    apt-get "${own[@]}" download prometheus >&2
    dpkg-deb -x prometheus_*.deb unpacked
    mv -T unpacked/usr/bin "$prometheus"
fi
echo "$prometheus"
