# SPDX-License-Identifier: Apache-2.0
# packages: dspy
"""dspy: signatures filled in from JSON that a schema demands."""
import os
from typing import Literal

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import dspy

from client import QUESTION, URL


class Review(dspy.Signature):
    """How does the text sound?"""

    text: str = dspy.InputField()
    mood: Literal["good", "bad"] = dspy.OutputField()
    is_long: bool = dspy.OutputField()


class Model(dspy.LM):
    """Of a server that its catalog does not have."""

    supports_response_schema = True
    supported_params = frozenset({"response_format", "temperature", "max_tokens"})


model = Model("hosted_vllm/smollm2", api_base=URL, api_key="none", temperature=0.0, max_tokens=200, cache=False)
assert "Paris" in str(model(QUESTION))
dspy.configure(lm=model, adapter=dspy.JSONAdapter())
review = dspy.Predict(Review)(text="I love it")
assert review.mood in ("good", "bad") and isinstance(review.is_long, bool), review
