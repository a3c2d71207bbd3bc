# SPDX-License-Identifier: Apache-2.0
# packages: litellm
"""litellm: one call for many vendors' servers, this one as hosted_vllm."""
import json
import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or it asks the network for prices
import litellm

from client import CITY, SAY_CAPITAL, URL, WEATHER

server = {"model": "hosted_vllm/smollm2", "api_base": URL, "api_key": "none", "temperature": 0}
chat = litellm.completion(messages=SAY_CAPITAL, max_tokens=20, **server)
text = chat.choices[0].message.content
assert "Paris" in text, text
parts = litellm.completion(messages=SAY_CAPITAL, max_tokens=20, stream=True, **server)
assert "".join(part.choices[0].delta.content or "" for part in parts) == text
done = litellm.text_completion(prompt="The capital of France is", max_tokens=5, **server)
assert "Paris" in done.choices[0].text, done
form = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": CITY}}
chat = litellm.completion(messages=SAY_CAPITAL, response_format=form, max_tokens=60, **server)
assert set(json.loads(chat.choices[0].message.content)) == {"name", "country"}
chat = litellm.completion(messages=SAY_CAPITAL, tools=[WEATHER], tool_choice="required", max_tokens=60, **server)
call = chat.choices[0].message.tool_calls[0].function
assert call.name == "weather" and isinstance(json.loads(call.arguments), dict), call  # "strict" it takes away
