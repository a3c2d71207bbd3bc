# SPDX-License-Identifier: Apache-2.0
# packages: guidellm
"""guidellm: a benchmark of two streams."""
import json
import pathlib
import subprocess
import sys
import tempfile

from client import MODEL, URL

with tempfile.TemporaryDirectory() as home:
    report = pathlib.Path(home, "report.json")
    subprocess.run([pathlib.Path(sys.executable).parent / "guidellm", "run", "--disable-progress",
                    "--backend", f"kind=openai_http,target={URL.removesuffix('/v1')},model=smollm2",
                    "--profile", "kind=concurrent,streams=2", "--constraint", "kind=max_requests,count=4",
                    "--tokenizer", f"kind=hf_auto,model={MODEL}",
                    "--data", "kind=synthetic_text,prompt_tokens=32,output_tokens=16",
                    "--output", f"kind=json,path={report}"], check=True, stdout=subprocess.DEVNULL)
    requests = json.loads(report.read_text(encoding="utf-8"))["benchmarks"][0]["metrics"]["request_totals"]
    assert requests["successful"] >= 4 and not requests["errored"], requests
