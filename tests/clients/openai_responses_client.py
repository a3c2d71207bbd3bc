# SPDX-License-Identifier: Apache-2.0
# packages: openai
"""openai: responses whole, streamed, parsed and gone on from; tools, the background, refusals."""
import time

import openai
from pydantic import BaseModel, Field

from client import PLACE, QUESTION, URL


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=20)
    country: str = Field(max_length=20)


client = openai.OpenAI(base_url=URL, api_key="none")
asked = {"model": "smollm2", "temperature": 0, "max_output_tokens": 60}
first = client.responses.create(input=QUESTION, **asked)
assert "Paris" in first.output_text and first.status == "completed", first
assert client.responses.retrieve(first.id).output_text == first.output_text
second = client.responses.create(input="And of Italy?", previous_response_id=first.id, **asked)
assert "Rome" in second.output_text, second
with client.responses.stream(input=QUESTION, **asked) as events:
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == events.get_final_response().output_text == first.output_text
assert isinstance(client.responses.parse(input="Paris, France", text_format=City, **asked).output_parsed, City)
tools = [{"type": "function", "name": "weather", "description": "The weather of a city.", "strict": True,
          "parameters": PLACE}]
called = client.responses.create(input="Weather in Paris?", tools=tools, tool_choice="required",
                                 parallel_tool_calls=False, **asked).output[0]
assert called.type == "function_call" and called.name == "weather", called
told = client.responses.create(
    input=[{"role": "user", "content": "Weather in Paris?"}, called.model_dump(exclude_none=True),
           {"type": "function_call_output", "call_id": called.call_id, "output": "Sunny."}], **asked)
assert told.output_text, told
later = client.responses.create(input=QUESTION, background=True, **asked)
while later.status in ("queued", "in_progress"):
    time.sleep(0.05)
    later = client.responses.retrieve(later.id)
assert later.output_text == first.output_text, later
try:
    client.responses.create(input="a", previous_response_id="none", **asked)
    raise AssertionError("a response that is not there was gone on from")
except openai.NotFoundError as error:
    assert error.param == "response_id", error
