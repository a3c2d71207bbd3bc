#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: test_venv.sh [schemas|clients|peers|ray|wheel|model] - prints the Python of an environment with the
# references that tests compare us with (tokenizers, jinja2), with jsonschema, with clients that
# others wrote (openai, schemathesis, huggingface_hub), with what stands around vLLM's server (starlette,
# prometheus_client), with Ray (of COHORT_RAY_VERSION), with what makes a wheel, or with what reads the
# file that the real model comes in, after making it once; 77 where it cannot be made.  Only the files
# whose hashes scripts/requirements has are installed.
set -euo pipefail

kind=${1:-references}
case $kind in
references) imports='jinja2, tokenizers' ;;
schemas) imports='jsonschema' ;;
clients) imports='huggingface_hub, openai, schemathesis' ;;
peers) imports='httpx, prometheus_client, starlette.testclient, yaml' ;;
ray) kind=ray-${COHORT_RAY_VERSION:-2.60.0} imports='ray.data, pytest' ;;
wheel) imports='auditwheel, setuptools.command.bdist_wheel' ;;
model) imports='gguf, numpy' ;;
*) exit 2 ;;
esac
wanted=$(dirname "$(realpath "$0")")/requirements/$kind.txt
if [ ! -f "$wanted" ]; then
    echo "$wanted is not there: scripts/pin_requirements.sh makes it from a $kind.in" >&2
    exit 77
fi
venv=${XDG_CACHE_HOME:-$HOME/.cache}/cohort/venv-$kind-$(sha256sum "$wanted" | cut -c1-12)
if [ ! -f "$venv/made" ]; then
    mkdir -p "$(dirname "$venv")"
    exec 9>"$venv.lock"
    flock 9 # tests run beside each other; one makes it
    if [ ! -f "$venv/made" ]; then
        echo "making a Python environment of $wanted" >&2
        rm -rf "$venv"
        { python3 -m venv "$venv" &&
            "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes -r "$wanted" &&
            "$venv/bin/python" -c "import $imports"; } >&2 || exit 77
        touch "$venv/made"
    fi
fi
echo "$venv/bin/python"
