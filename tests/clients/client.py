# SPDX-License-Identifier: Apache-2.0
"""What the clients' tests share: where the server is, what they say and ask for."""
import os

URL = os.environ["COHORT_URL"]  # ends in /v1
MODEL = os.environ["COHORT_MODEL"]  # its directory, for tokenizers
QUESTION = "What is the capital of France?"
SAY_CAPITAL = [{"role": "user", "content": QUESTION}]
CITY = {"type": "object", "additionalProperties": False, "required": ["name", "country"],
        "properties": {"name": {"type": "string", "maxLength": 20}, "country": {"type": "string", "maxLength": 20}}}
PLACE = {"type": "object", "additionalProperties": False, "required": ["city"],
         "properties": {"city": {"type": "string", "minLength": 1, "maxLength": 20}}}
# strict: the arguments match, and not only the form of the call.
WEATHER = {"type": "function", "function": {"name": "weather", "description": "The weather of a city.",
                                            "strict": True, "parameters": PLACE}}
