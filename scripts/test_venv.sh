#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: test_venv.sh [clients|ray] - prints the Python of an environment with the references that
# tests compare us with (tokenizers, jinja2), with clients that others wrote (openai, schemathesis,
# huggingface_hub), or with Ray (of COHORT_RAY_VERSION), after making it once; 77 where it cannot be
# made.
set -euo pipefail

case ${1:-references} in
references)
    name=venv-test imports='jinja2, tokenizers'
    wanted='--no-deps tokenizers==0.22.2 jinja2==3.1.6 markupsafe==3.0.4' ;;
clients)
    name=venv-clients imports='huggingface_hub, openai, schemathesis'
    wanted='openai==3.54.0 schemathesis==4.32.5 huggingface_hub==2.4.0' ;;
ray)
    version=${COHORT_RAY_VERSION:-2.60.0}
    name=venv-ray-$version imports='ray, pytest'
    wanted="ray==$version pytest==8.4.2 mypy==1.18.2" ;;
*) exit 2 ;;
esac
venv=${XDG_CACHE_HOME:-$HOME/.cache}/cohort/$name
if [ "$(cat "$venv/wanted" 2>/dev/null)" != "$wanted" ]; then
    mkdir -p "$(dirname "$venv")"
    exec 9>"$venv.lock"
    flock 9 # tests run beside each other; one makes it
    if [ "$(cat "$venv/wanted" 2>/dev/null)" != "$wanted" ]; then
        echo "making a Python environment with $wanted" >&2
        rm -rf "$venv"
        # shellcheck disable=SC2086 # a list
        { python3 -m venv "$venv" &&
            "$venv/bin/pip" install --quiet --disable-pip-version-check $wanted &&
            "$venv/bin/python" -c "import $imports"; } >&2 || exit 77
        echo "$wanted" >"$venv/wanted"
    fi
fi
echo "$venv/bin/python"
