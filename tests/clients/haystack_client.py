# SPDX-License-Identifier: Apache-2.0
# packages: haystack-ai
"""haystack: chat generators with tools and structured answers, streamed or not."""
import json

from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import Tool
from haystack.utils import Secret
from pydantic import BaseModel, Field

from client import PLACE, QUESTION, URL


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=20)
    country: str = Field(max_length=20)


def generator(**more):
    return OpenAIChatGenerator(api_key=Secret.from_token("none"), model="smollm2", api_base_url=URL,
                               generation_kwargs={"temperature": 0, "max_tokens": 100}, timeout=120, **more)


def ask(text, kwargs=None, **more):
    return generator(**more).run([ChatMessage.from_user(text)], generation_kwargs=kwargs)["replies"][0]


weather = Tool(name="weather", description="The weather of a city", parameters=PLACE, function=lambda city: city)
assert "Paris" in ask(QUESTION).text
answer = ask("Paris, France", {"response_format": City}).text
assert set(json.loads(answer)) == {"name", "country"}, answer
for more in ({}, {"streaming_callback": lambda part: None}):
    calls = ask("Weather in Paris?", {"tool_choice": "required"}, tools=[weather], tools_strict=True, **more).tool_calls
    assert calls[0].tool_name == "weather" and calls[0].arguments["city"], calls
