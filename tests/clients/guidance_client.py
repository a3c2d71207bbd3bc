# SPDX-License-Identifier: Apache-2.0
# packages: guidance openai
"""guidance: programs whose every answer is a grammar in llguidance's notation."""
import json
import re

import guidance
from guidance.models.experimental import VLLMModel

from client import PLACE, QUESTION, URL

model = VLLMModel("smollm2", base_url=URL, api_key="none", echo=False)
with guidance.user():
    model += QUESTION
with guidance.assistant():
    model += guidance.gen("capital", max_tokens=8)  # its temperature is the grammar's, which vLLM does not take either
assert 0 < len(model["capital"].split()) <= 8, model["capital"]
with guidance.user():
    model += "Is it in Europe?"
with guidance.assistant():
    model += guidance.select(["yes", "no"], name="choice")
assert model["choice"] in ("yes", "no"), model["choice"]
with guidance.user():
    model += "In which year was the revolution?"
with guidance.assistant():
    model += guidance.gen("year", regex="[0-9]{4}", temperature=0)
assert re.fullmatch("[0-9]{4}", model["year"]), model["year"]
with guidance.user():
    model += "Paris as JSON"
with guidance.assistant():
    model += guidance.json(schema=PLACE)
place = str(model)[str(model).rindex("{"):str(model).rindex("}") + 1]
assert json.loads(place)["city"], place
