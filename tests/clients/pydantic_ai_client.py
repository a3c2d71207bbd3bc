# SPDX-License-Identifier: Apache-2.0
# packages: pydantic-ai-slim[openai]
"""pydantic-ai: agents with outputs by schema and by a strict tool, and streams; of chats, and of
responses, which `openai:` means."""
import asyncio

from pydantic import BaseModel, Field
from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from client import QUESTION, URL


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=20)
    country: str = Field(max_length=20)


provider = OpenAIProvider(base_url=URL, api_key="none")
settings = {"temperature": 0, "max_tokens": 100}


async def streamed(agent):
    async with agent.run_stream(QUESTION) as parts:
        return [part async for part in parts.stream_text()]


for kind in (OpenAIChatModel, OpenAIResponsesModel):
    model = kind("smollm2", provider=provider)
    for output in (NativeOutput(City, strict=True), ToolOutput(City, strict=True)):
        made = Agent(model, output_type=output, model_settings=settings).run_sync("Paris, France").output
        assert isinstance(made, City), made
    agent = Agent(model, model_settings=settings)
    text = agent.run_sync(QUESTION).output
    assert "Paris" in text, text
    assert asyncio.run(streamed(agent))[-1] == text
