# SPDX-License-Identifier: Apache-2.0
# packages: pydantic-ai-slim[openai]
"""pydantic-ai: agents with outputs by schema and by a strict tool, and streams."""
import asyncio

from pydantic import BaseModel, Field
from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from client import QUESTION, URL


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=20)
    country: str = Field(max_length=20)


model = OpenAIChatModel("smollm2", provider=OpenAIProvider(base_url=URL, api_key="none"))
settings = {"temperature": 0, "max_tokens": 100}
for output in (NativeOutput(City, strict=True), ToolOutput(City, strict=True)):
    assert isinstance(Agent(model, output_type=output, model_settings=settings).run_sync("Paris, France").output, City)
agent = Agent(model, model_settings=settings)
text = agent.run_sync(QUESTION).output
assert "Paris" in text, text


async def streamed():
    async with agent.run_stream(QUESTION) as parts:
        return [part async for part in parts.stream_text()]


assert asyncio.run(streamed())[-1] == text
