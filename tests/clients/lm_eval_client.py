# SPDX-License-Identifier: Apache-2.0
# packages: lm-eval[api] transformers
"""lm-eval: loglikelihoods of choices, from the logprobs of an echoed prompt."""
import json
import pathlib
import tempfile

import lm_eval
from lm_eval.tasks import TaskManager

from client import MODEL, URL

ROWS = [{"country": "France", "choices": ["Paris", "Oslo", "Lima"], "answer": 0},
        {"country": "Japan", "choices": ["Cairo", "Tokyo", "Bern"], "answer": 1},
        {"country": "Italy", "choices": ["Quito", "Delhi", "Rome"], "answer": 2}]

with tempfile.TemporaryDirectory() as home:
    rows = pathlib.Path(home, "rows.jsonl")
    rows.write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    pathlib.Path(home, "capitals.yaml").write_text(
        f"task: capitals\ndataset_path: json\ndataset_kwargs:\n  cache_dir: {home}\n  data_files:\n    test: {rows}\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: The capital of {{country}} is\n"
        "doc_to_choice: '{{choices}}'\ndoc_to_target: '{{answer}}'\nmetric_list:\n- metric: acc\n", encoding="utf-8")
    results = lm_eval.simple_evaluate(
        model="local-completions", tasks=["capitals"], task_manager=TaskManager(include_path=home),
        model_args={"model": "smollm2", "base_url": f"{URL}/completions", "tokenizer": MODEL, "num_concurrent": 2})
    assert results["results"]["capitals"]["acc,none"] == 1, results["results"]
