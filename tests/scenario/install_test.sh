#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What `make install` lays down is all that a stranger needs: the examples are built against
# it by pkg-config and by CMake, and run, on one rank and on two.
set -euo pipefail

source=$COHORT_SOURCE_DIR build=$COHORT_BUILD_DIR
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
DESTDIR=$root cmake --install "$build" --prefix /opt/cohort >"$root/log"
prefix=$root/opt/cohort
library=$(dirname "$(find "$prefix" -name 'libcohort.so')")
export LD_LIBRARY_PATH=$library PATH=$prefix/bin:$PATH

fail() { echo "install_test: $*" >&2 && exit 1; }

# Only what carries COHORT_API is exported, under a versioned soname.
readelf -d "$library/libcohort.so" | grep -q 'SONAME.*libcohort\.so\.[0-9]' || fail "no soname"
foreign=$(nm -D --defined-only "$library/libcohort.so" | awk '{print $3}' | grep -v '^cohort_' || true)
[ -z "$foreign" ] || fail "exports $foreign"
cmp -s <(cd "$source/include" && find . -name '*.h' | sort) \
    <(cd "$prefix/include" && find . -name '*.h' | sort) || fail "headers are missing"

for page in man/man1/cohort-bench-serve.1 bash-completion/completions/cohort \
    zsh/site-functions/_cohort fish/vendor_completions.d/cohort.fish; do
    [ -s "$prefix/share/$page" ] || fail "share/$page is missing"
done

export PKG_CONFIG_PATH=$library/pkgconfig
# shellcheck disable=SC2046 # flags are words
for example in complete broadcast; do
    cc -std=c17 -Wall -Wextra -Werror "$source/examples/$example.c" \
        $(pkg-config --cflags --libs cohort) -o "$root/$example"
done
cmake -S "$source/examples" -B "$root/by-cmake" -DCMAKE_PREFIX_PATH="$prefix" >>"$root/log"
cmake --build "$root/by-cmake" >>"$root/log"

# shellcheck disable=SC2046 # flags are words
cc -std=c17 -Wall -Wextra -Werror -shared -fPIC $(pkg-config --cflags cohort) \
    "$source/examples/extension.c" -o "$root/extension.so"

model=$source/tests/golden/qwen2-float32
for library in "$root/extension.so" "$root/by-cmake/extension.so"; do
    said=$("$prefix/bin/cohort" generate "$model" -tp 2 --prompt a --max-tokens 1 \
        --worker-extension-cls "$library:install" 2>&1 >/dev/null)
    [ "$(grep -c 'extension: rank [01] of 2' <<<"$said")" -eq 2 ] || fail "$library: $said"
done
want=$("$prefix/bin/cohort" generate "$model" --prompt "a b c" --skip-chat-template \
    --max-tokens 24 --temperature 0)
[ -n "$want" ] || fail "the installed command says nothing"
for program in "$root/complete" "$root/by-cmake/complete"; do
    for ranks in 1 2; do
        got=$("$program" "$model" $ranks "a b c")
        [ "$got" = "$want" ] || fail "$program on $ranks ranks says '$got', not '$want'"
    done
done

# A Python without packages finds the sidecar's: all that it misses is Ray.
printf '#!/bin/sh\nexec python3 -S "$@"\n' >"$root/python"
chmod +x "$root/python"
cat >"$root/on_ray.c" <<'EOF'
#include <cohort/executor.h>
#include <stdio.h>

int main(void) {
    cohort_executor *executor;
    cohort_executor_options options = cohort_executor_defaults();
    options.backend = "ray";
    if (cohort_executor_start(&options, &executor) < 0) puts(cohort_last_error()->message);
}
EOF
# shellcheck disable=SC2046 # flags are words
cc -std=c17 "$root/on_ray.c" $(pkg-config --cflags --libs cohort) -o "$root/on_ray"
for program in "$root/on_ray" "$prefix/bin/cohort doctor ray"; do
    said=$(cd / && COHORT_PYTHON=$root/python $program 2>&1 || true)
    grep -q "Ray is not installed for" <<<"$said" || fail "$program: $said"
done

for program in "$root/broadcast" "$root/by-cmake/broadcast"; do
    [ "$("$program" | grep -c '1000 messages over shared memory')" -eq 2 ] || fail "$program"
done
