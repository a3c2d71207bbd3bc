# SPDX-License-Identifier: Apache-2.0
# packages: anthropic
"""anthropic: messages whole and streamed, a loop with a tool, counted tokens, refusals."""
import anthropic

from client import PLACE, SAY_CAPITAL, URL

client = anthropic.Anthropic(base_url=URL.removesuffix("/v1"), api_key="none")
asked = {"model": "smollm2", "max_tokens": 60, "extra_body": {"temperature": 0}}
first = client.messages.create(messages=SAY_CAPITAL, system="Be brief.", **asked)
assert "Paris" in first.content[0].text and first.stop_reason == "end_turn", first
counted = client.messages.count_tokens(model="smollm2", messages=SAY_CAPITAL, system="Be brief.")
assert counted.input_tokens == first.usage.input_tokens, counted
with client.messages.stream(messages=SAY_CAPITAL, system="Be brief.", **asked) as events:
    text = "".join(events.text_stream)
    assert text == first.content[0].text == events.get_final_message().content[0].text
cut = client.messages.create(messages=SAY_CAPITAL, stop_sequences=["Paris"], **asked)
assert (cut.stop_reason, cut.stop_sequence) == ("stop_sequence", "Paris"), cut
tools = [{"name": "weather", "description": "The weather of a city.", "strict": True, "input_schema": PLACE}]
said = [{"role": "user", "content": "Weather in Paris?"}]
once = {"type": "any", "disable_parallel_tool_use": True}
called = client.messages.create(messages=said, tools=tools, tool_choice=once, **asked)
use = called.content[0]
assert called.stop_reason == "tool_use" and use.name == "weather" and use.input["city"], called
with client.messages.stream(messages=said, tools=tools, tool_choice=once, **asked) as events:
    assert events.get_final_message().content[0].input == use.input
said += [{"role": "assistant", "content": called.content},
         {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "Sunny."}]}]
assert client.messages.create(messages=said, tools=tools, tool_choice={"type": "none"}, **asked).content[0].text
try:
    client.messages.create(messages=SAY_CAPITAL, **asked | {"model": "other"})
    raise AssertionError("a model that is not served answered")
except anthropic.NotFoundError as error:
    assert "does not exist" in str(error), error
