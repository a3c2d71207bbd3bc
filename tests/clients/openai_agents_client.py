# SPDX-License-Identifier: Apache-2.0
# packages: openai-agents
"""openai-agents with its defaults, which are responses: an answer, a stream, outputs by schema, a loop with a tool."""
import asyncio

from agents import Agent, ModelSettings, Runner, function_tool, set_default_openai_client, set_tracing_disabled
from openai import AsyncOpenAI
from pydantic import BaseModel, Field

from client import QUESTION, URL


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=20)
    country: str = Field(max_length=20)


asked = []


@function_tool
def weather(city: str) -> str:
    """The weather of a city."""
    asked.append(city)
    return "Sunny."


set_tracing_disabled(True)
set_default_openai_client(AsyncOpenAI(base_url=URL, api_key="none"), use_for_tracing=False)
settings = ModelSettings(temperature=0, max_tokens=100)
agent = Agent(name="guide", instructions="Be brief.", model="smollm2", model_settings=settings)
cities = Agent(name="cities", model="smollm2", model_settings=settings, output_type=City)
caller = Agent(name="caller", model="smollm2", tools=[weather],
               model_settings=ModelSettings(temperature=0, max_tokens=100, tool_choice="required",
                                            parallel_tool_calls=False))


async def streamed():
    run = Runner.run_streamed(agent, QUESTION)
    events = [event async for event in run.stream_events()]
    deltas = [event.data.delta for event in events
              if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"]
    return "".join(deltas), run.final_output


async def main():
    text = (await Runner.run(agent, QUESTION)).final_output
    assert "Paris" in text, text
    assert await streamed() == (text, text)
    assert isinstance((await Runner.run(cities, "Paris, France")).final_output, City)
    assert (await Runner.run(caller, "Weather in Paris?")).final_output and asked, asked


asyncio.run(main())
