#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: deb.sh [--test] - builds Debian packages of what git has here, into build/deb; with --test (root,
# debootstrap) installs them in a clean Debian, and there asks a small model on two workers.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$PWD/build/deb
rm -rf "$out"
mkdir -p "$out/cohort"
git ls-files -z | xargs -0 cp --parents -t "$out/cohort"
(cd "$out/cohort" && dpkg-buildpackage --build=binary --no-sign >"$out/log" 2>&1) || { tail -30 "$out/log"; exit 1; }
ls "$out"/*.deb
[ "${1-}" = --test ] || exit 0

root=$(mktemp -d)
chmod 755 "$root" # apt fetches as another user
trap 'umount "$root/proc" 2>/dev/null || true; rm -rf "$root"' EXIT
# shellcheck disable=SC1091 # of the system
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
# shellcheck disable=SC2016 # apt's variables
mirror=$(apt-get indextargets --format '$(SITE)' "Codename: $suite" | head -1)
debootstrap --variant=minbase "$suite" "$root" "$mirror" >"$out/debootstrap.log"
cp "$out"/*.deb "$root/"
cp -r tests/golden/llama-float32 "$root/model"
mount -t proc proc "$root/proc"
# shellcheck disable=SC2016 # the shell's within
chroot "$root" sh -euc '
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -qy --no-install-recommends /*.deb gcc pkg-config >/dev/null
    cohort --version
    cohort generate /model -tp 2 --prompt "a b c" --max-tokens 4 --temperature 0 >/dev/null
    echo "#include <cohort/executor.h>
        int main(void) { return cohort_executor_defaults().tp != 1; }" >/p.c
    cc /p.c $(pkg-config --cflags --libs cohort) -o /p && /p
    test -s /usr/share/man/man1/cohort-serve.1.gz
    apt-get purge -qy cohort libcohort-dev libcohort0 >/dev/null
    test ! -e /usr/bin/cohort'
echo "installed, ran, and was removed"
