# SPDX-License-Identifier: Apache-2.0
# packages: llm
"""llm, the command: prompts and schemas, streamed or not."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from client import QUESTION, URL

LLM = str(pathlib.Path(sys.executable).parent / "llm")

with tempfile.TemporaryDirectory() as home:
    pathlib.Path(home, "extra-openai-models.yaml").write_text(
        f"- model_id: smol\n  model_name: smollm2\n  api_base: {URL}\n  api_key_name: none\n"
        "  supports_tools: true\n  supports_schema: true\n", encoding="utf-8")

    def run(*words):
        return subprocess.run([LLM, *words], env=os.environ | {"LLM_USER_PATH": home}, check=True, text=True,
                              stdout=subprocess.PIPE).stdout

    run("keys", "set", "none", "--value", "none")
    smol = ("-m", "smol", "-o", "temperature", "0", "-o", "max_tokens", "60")
    assert "Paris" in run(*smol, QUESTION)
    for words in ((), ("--no-stream",)):
        said = run(*smol, *words, "--schema", "name,age int", "Ada is 36 years old")
        assert json.loads(said)["age"] == 36, said
