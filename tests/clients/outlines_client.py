# SPDX-License-Identifier: Apache-2.0
# packages: outlines[openai]
"""outlines: types, choices, patterns and grammars, in vLLM's structured outputs."""
import json
import re
from typing import Literal

import openai
import outlines
from outlines.types import CFG, Regex
from pydantic import BaseModel, Field

from client import URL


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=20)
    country: str = Field(max_length=20)


client = openai.OpenAI(base_url=URL, api_key="none")
model = outlines.from_vllm(client, "smollm2")
settings = {"temperature": 0, "max_tokens": 60}
city = model("Paris is in France.", City, **settings)
assert set(json.loads(city)) == {"name", "country"}, city
assert "".join(model.stream("Paris is in France.", City, **settings)) == city
assert model("Is Paris in France?", Literal["yes", "no"], **settings) in ("yes", "no")
assert re.fullmatch("[0-9]{4}-[0-9]{2}", model("A month:", Regex("[0-9]{4}-[0-9]{2}"), **settings))
assert re.fullmatch("a(b|c){3}", model("Go", CFG('start: "a" BC~3\nBC: "b" | "c"\n'), **settings))
assert json.loads(outlines.from_openai(client, "smollm2")("Paris is in France.", City, **settings))["country"]
