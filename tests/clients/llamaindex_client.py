# SPDX-License-Identifier: Apache-2.0
# packages: llama-index-llms-openai-like
"""llama-index: chats, completions, structured models and tools."""
from typing import Annotated

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel, Field

from client import QUESTION, URL


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=20)
    country: str = Field(max_length=20)


def weather(city: Annotated[str, Field(max_length=20)]) -> str:
    """The weather of a city."""
    return city


server = {"model": "smollm2", "api_base": URL, "api_key": "none", "temperature": 0, "context_window": 2048}
model = OpenAILike(is_chat_model=True, is_function_calling_model=True, should_use_structured_outputs=True,
                   max_tokens=100, strict=True, **server)
text = model.chat([ChatMessage(role="user", content=QUESTION)]).message.content
assert "Paris" in text, text
assert "".join(p.delta or "" for p in model.stream_chat([ChatMessage(role="user", content=QUESTION)])) == text
assert isinstance(model.as_structured_llm(City).complete("Paris, France").raw, City)
said = model.chat_with_tools([FunctionTool.from_defaults(weather)], user_msg="Weather in Paris?", tool_required=True)
assert model.get_tool_calls_from_response(said)[0].tool_name == "weather"
assert "Paris" in OpenAILike(is_chat_model=False, max_tokens=5, **server).complete("The capital of France is").text
