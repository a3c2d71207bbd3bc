# SPDX-License-Identifier: Apache-2.0
# packages: langchain-openai
"""langchain: structured output by schema and by tool, bound tools, streams, batches, logprobs."""
from typing import Annotated, Literal

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field

from client import QUESTION, URL


class Person(BaseModel):
    """Somebody."""

    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=150)
    kind: Literal["human", "machine"]


@tool
def weather(city: Annotated[str, Field(max_length=20)]) -> str:
    """The weather of a city."""
    return city


model = ChatOpenAI(model="smollm2", base_url=URL, api_key="none", temperature=0, max_tokens=100)
for method in ("json_schema", "function_calling"):
    person = model.with_structured_output(Person, method=method, strict=True).invoke("Ada is 36, a human.")
    assert isinstance(person, Person), (method, person)
calls = model.bind_tools([weather], tool_choice="any", strict=True).invoke("The weather in Paris?").tool_calls
assert calls[0]["name"] == "weather" and weather.invoke(calls[0]).content, calls
text = model.invoke(QUESTION).content
assert "Paris" in text, text
assert "".join(part.content for part in model.stream(QUESTION)) == text
assert [said.content for said in model.batch([QUESTION] * 3)] == [text] * 3
assert model.invoke(QUESTION, logprobs=True).response_metadata["logprobs"]["content"][0]["logprob"] <= 0
