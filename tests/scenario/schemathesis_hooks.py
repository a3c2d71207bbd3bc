# SPDX-License-Identifier: Apache-2.0
"""What schemathesis asks openai_test.py's server, mended so that a good part of it is answered.

A body of its own has any number of fields, and among so many one is always refused: an empty
list of the tokens that are allowed, no prompt, no message with a role.  In three of four cases
we keep a few fields, and what is needed becomes something that can be answered.
"""
from random import Random

import schemathesis

NEEDED = {"/v1/completions": "prompt", "/v1/chat/completions": "messages", "/v1/responses": "input",
          "/v1/messages": "messages", "/v1/messages/count_tokens": "messages",
          "/tokenize": "prompt", "/detokenize": "tokens"}


def message(random, given):
    text = random.choice(["", "a b", "\u00e9\u4e16", str(given)[:200]])
    return {**(given if isinstance(given, dict) else {}),
            "role": random.choice(["user", "system", "assistant", "tool"]),
            "content": random.choice([text, [{"type": "text", "text": text}]])}


@schemathesis.hook
def before_call(_context, case, _kwargs):
    random = Random(repr(case.body))
    needed = NEEDED.get(case.path)
    if not needed or not isinstance(case.body, dict) or random.randrange(4) == 0:
        return
    kept = random.sample(sorted(case.body), min(len(case.body), random.randrange(6)))
    body = {name: case.body[name] for name in kept if name not in ("model", "allowed_token_ids")}
    if case.path.startswith("/v1/messages"):
        body |= {"model": "tiny", "max_tokens": 3}
    given = case.body.get(needed)
    if needed == "messages":
        body[needed] = [message(random, one) for one in (
            given if isinstance(given, list) and given else [{}])]
    else:
        body[needed] = given or ([1, 2] if needed == "tokens" else "a b")
    case.body = body
