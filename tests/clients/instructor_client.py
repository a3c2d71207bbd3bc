# SPDX-License-Identifier: Apache-2.0
# packages: instructor
"""instructor: objects out of answers, whole and as they grow."""
import instructor
import openai
from pydantic import BaseModel, Field

from client import URL


class Person(BaseModel):
    """Somebody."""

    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=150)


client = instructor.from_openai(openai.OpenAI(base_url=URL, api_key="none"), mode=instructor.Mode.JSON_SCHEMA)
asked = {"model": "smollm2", "temperature": 0, "max_tokens": 100, "response_model": Person,
         "messages": [{"role": "user", "content": "Ada is 36 years old."}]}
person = client.chat.completions.create(max_retries=0, **asked)
assert (person.name, person.age) == ("Ada", 36), person
grown = list(client.chat.completions.create_partial(**asked))
assert len(grown) > 1 and grown[-1].age == 36, grown
