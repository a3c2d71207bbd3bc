# SPDX-License-Identifier: Apache-2.0
# packages: smolagents[openai]
"""smolagents: messages in parts, tools, streams, structured steps with stop sequences."""
import json

from smolagents import OpenAIModel, tool

from client import CITY, QUESTION, URL


@tool
def weather(city: str) -> str:
    """The weather of a city.

    Args:
        city: its name
    """
    return city


def said(text):
    return [{"role": "user", "content": [{"type": "text", "text": text}]}]


model = OpenAIModel(model_id="smollm2", api_base=URL, api_key="none", temperature=0, max_tokens=100)
text = model.generate(said(QUESTION)).content
assert "Paris" in text, text
assert "".join(part.content or "" for part in model.generate_stream(said(QUESTION))) == text
called = model.generate(said("Weather in Paris?"), tools_to_call_from=[weather]).tool_calls[0]
assert called.function.name == "weather", called
form = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": CITY}}
answer = model.generate(said("Paris, France"), response_format=form, stop_sequences=["Observation:"]).content
assert set(json.loads(answer)) == {"name", "country"}, answer
