#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Ask a running OpenAI-style server many good and bad questions; write what comes back.

usage: capture.py BASE_URL OUT_DIR [MODEL]      run against vLLM to record, against ours to diff
Values that differ from run to run (ids, times) are replaced by <id>, <time>.
"""
import http.client, json, os, re, sys, urllib.parse
u, out = urllib.parse.urlparse(sys.argv[1]), sys.argv[2]
os.makedirs(out, exist_ok=True)

def ask(method, path, body=None, headers=None):
    c = http.client.HTTPConnection(u.hostname, u.port, timeout=120)
    h = {"Content-Type": "application/json"} if body is not None else {}
    h |= headers or {}
    c.request(method, path, body if body is None or isinstance(body, (str, bytes)) else json.dumps(body), h)
    r = c.getresponse()
    return r.status, dict((k.lower(), v) for k, v in r.getheaders()), r.read().decode("utf-8", "replace")

_, _, t = ask("GET", "/v1/models")
model = sys.argv[3] if len(sys.argv) > 3 else json.loads(t)["data"][0]["id"]

def clean(s):
    s = re.sub(r'"root": ?"[^"]*"', '"root":"<path>"', s)
    s = re.sub(r"(word ){20,}word", "word word ...[3000 words]", s.replace(model, "<model>"))
    s = re.sub(r'"(cmpl|chatcmpl|modelperm|tokn|resp|msg|rs)[-_][0-9a-zA-Z-]+"', r'"\1-<id>"', s)
    s = re.sub(r'"(created|created_at)": ?[0-9.]+', r'"\1":"<time>"', s)
    s = re.sub(r'"(id|request_id|trace_id)": ?"[0-9a-f-]{16,}"', r'"\1":"<id>"', s)
    return s

def show(f, name, method, path, body=None, headers=None, cut=2600):
    try:
        st, h, t = ask(method, path, body, headers)
    except Exception as e:
        f.write(f"### {name}\n{method} {path}\n{body if not isinstance(body, dict) else clean(json.dumps(body))}\n-> {e!r}\n\n"); return
    t = clean(t)
    if len(t) > cut:
        t = t[:cut] + f" ...[{len(t)} chars]"
    b = "" if body is None else (body if isinstance(body, str) else clean(json.dumps(body)))
    f.write(f"### {name}\n{method} {path}\n{b}\n-> {st} {h.get('content-type')} transfer={h.get('transfer-encoding', '-')}\n{t}\n\n")

C, H = "/v1/completions", "/v1/chat/completions"
P = {"model": model, "prompt": "The capital of France is", "temperature": 0, "max_tokens": 4}
M = {"model": model, "messages": [{"role": "user", "content": "What is 2+2?"}], "temperature": 0, "max_tokens": 5}

with open(f"{out}/small_routes.txt", "w") as f:
    for p in ("/health", "/ping", "/version", "/load", "/v1/models", "/v1/models/" + urllib.parse.quote(model, safe=""), "/server_info", "/nope", "/"):
        show(f, p.replace(model, "<model>"), "GET", p)
    show(f, "POST ping", "POST", "/ping", "")
    show(f, "method not allowed", "GET", C)
    show(f, "tokenize prompt", "POST", "/tokenize", {"model": model, "prompt": "Hello world 12", "return_token_strs": True})
    show(f, "tokenize chat", "POST", "/tokenize", {"model": model, "messages": M["messages"]})
    show(f, "detokenize", "POST", "/detokenize", {"model": model, "tokens": [504, 3575, 282, 4649]})
    show(f, "embeddings on a generate model", "POST", "/v1/embeddings", {"model": model, "input": "a"})

with open(f"{out}/completions.txt", "w") as f:
    show(f, "plain", "POST", C, P)
    show(f, "logprobs 2", "POST", C, P | {"logprobs": 2, "max_tokens": 2})
    show(f, "echo", "POST", C, P | {"echo": True})
    show(f, "echo + logprobs + max_tokens 0", "POST", C, P | {"echo": True, "logprobs": 1, "max_tokens": 0})
    show(f, "prompt_logprobs 1", "POST", C, P | {"prompt_logprobs": 1, "max_tokens": 1})
    show(f, "n 2, seed", "POST", C, P | {"n": 2, "temperature": 0.8, "seed": 1})
    show(f, "stop string", "POST", C, P | {"max_tokens": 20, "stop": ["answer"]})
    show(f, "stop string included", "POST", C, P | {"max_tokens": 20, "stop": "answer", "include_stop_str_in_output": True})
    show(f, "stop_token_ids", "POST", C, P | {"max_tokens": 20, "stop_token_ids": [198]})
    show(f, "two prompts", "POST", C, P | {"prompt": ["The capital of France is", "1 2 3 4"]})
    show(f, "token prompt", "POST", C, P | {"prompt": [504, 3575, 282, 4649, 314]})
    show(f, "return_token_ids", "POST", C, P | {"return_token_ids": True, "max_tokens": 2})
    show(f, "stream", "POST", C, P | {"stream": True, "max_tokens": 3})
    show(f, "stream + usage", "POST", C, P | {"stream": True, "max_tokens": 2, "stream_options": {"include_usage": True}})
    show(f, "stream + continuous usage", "POST", C, P | {"stream": True, "max_tokens": 2, "stream_options": {"include_usage": True, "continuous_usage_stats": True}})
    show(f, "stream + logprobs", "POST", C, P | {"stream": True, "max_tokens": 2, "logprobs": 1})
    show(f, "stream + echo", "POST", C, P | {"stream": True, "max_tokens": 2, "echo": True})
    show(f, "structured json", "POST", C, P | {"max_tokens": 24, "structured_outputs": {"choice": ["yes", "no"]}})

with open(f"{out}/chat.txt", "w") as f:
    show(f, "plain", "POST", H, M)
    show(f, "logprobs + top_logprobs 2", "POST", H, M | {"logprobs": True, "top_logprobs": 2, "max_tokens": 2})
    show(f, "n 2", "POST", H, M | {"n": 2, "temperature": 0.7, "seed": 3, "max_tokens": 3})
    show(f, "runs to eos", "POST", H, M | {"max_tokens": 60})
    show(f, "max_completion_tokens", "POST", H, {k: v for k, v in M.items() if k != "max_tokens"} | {"max_completion_tokens": 2})
    show(f, "content parts", "POST", H, M | {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], "max_tokens": 2})
    show(f, "stream", "POST", H, M | {"stream": True, "max_tokens": 3})
    show(f, "stream + usage", "POST", H, M | {"stream": True, "max_tokens": 2, "stream_options": {"include_usage": True}})
    show(f, "stream + logprobs", "POST", H, M | {"stream": True, "max_tokens": 2, "logprobs": True, "top_logprobs": 1})
    show(f, "stream n 2", "POST", H, M | {"stream": True, "n": 2, "max_tokens": 2, "temperature": 0.7, "seed": 3})
    show(f, "json_object", "POST", H, M | {"response_format": {"type": "json_object"}, "max_tokens": 16})
    show(f, "tools, auto, no parser configured", "POST", H, M | {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}], "tool_choice": "auto"})

with open(f"{out}/errors.txt", "w") as f:
    big = " ".join(["word"] * 3000)
    for n, p, b in [
        ("unknown model", C, P | {"model": "nope"}), ("unknown model, chat", H, M | {"model": "nope"}),
        ("broken JSON", C, '{"model": '), ("empty body", C, ""), ("not an object", C, "[1]"), ("no prompt", C, {"model": model}),
        ("no messages", H, {"model": model}), ("empty messages", H, M | {"messages": []}), ("no model", C, {"prompt": "a", "max_tokens": 1}),
        ("empty prompt", C, P | {"prompt": ""}), ("empty prompt list", C, P | {"prompt": []}), ("null prompt", C, P | {"prompt": None}),
        ("max_tokens too big", C, P | {"max_tokens": 100000}), ("max_tokens too big, chat", H, M | {"max_tokens": 100000}),
        ("max_tokens 0", C, P | {"max_tokens": 0}), ("max_tokens -1", C, P | {"max_tokens": -1}), ("max_tokens string", C, P | {"max_tokens": "x"}),
        ("max_tokens numeric string", C, P | {"max_tokens": "3"}), ("prompt too long", C, P | {"prompt": big}), ("prompt too long, chat", H, M | {"messages": [{"role": "user", "content": big}]}),
        ("temperature -1", C, P | {"temperature": -1}), ("temperature 3", C, P | {"temperature": 3}), ("top_p 0", C, P | {"top_p": 0}), ("top_p 2", C, P | {"top_p": 2}),
        ("top_k -5", C, P | {"top_k": -5}), ("n 0", C, P | {"n": 0}), ("n 2 greedy", C, P | {"n": 2}), ("logprobs 100", C, P | {"logprobs": 100}),
        ("chat top_logprobs without logprobs", H, M | {"top_logprobs": 2}), ("top_logprobs 100", H, M | {"logprobs": True, "top_logprobs": 100}),
        ("unknown field", C, P | {"wibble": 1}), ("bad role", H, M | {"messages": [{"role": "wizard", "content": "a"}]}),
        ("content number", H, M | {"messages": [{"role": "user", "content": 3}]}), ("message without content", H, M | {"messages": [{"role": "user"}]}),
        ("image to a text model", H, M | {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]}),
        ("stream_options without stream", C, P | {"stream_options": {"include_usage": True}}), ("token id out of range", C, P | {"prompt": [999999]}),
        ("negative token id", C, P | {"prompt": [-1]}), ("stop too many types", C, P | {"stop": [1]}), ("bad json schema", H, M | {"response_format": {"type": "json_schema"}}),
        ("presence_penalty 9", C, P | {"presence_penalty": 9}), ("best_of 3", C, P | {"best_of": 3}), ("suffix", C, P | {"suffix": "x"}), ("min_tokens > max_tokens", C, P | {"min_tokens": 9}),
    ]:
        show(f, n, "POST", p, b, cut=900)
    show(f, "wrong content type", "POST", C, json.dumps(P), {"Content-Type": "text/plain"}, cut=900)
    show(f, "error inside a stream request", "POST", C, P | {"stream": True, "max_tokens": 100000}, cut=900)

st, _, t = ask("GET", "/openapi.json")
if st == 200:
    o = json.loads(t)
    with open(f"{out}/routes.txt", "w") as f:
        for p, ms in sorted(o["paths"].items()):
            f.write(f"{','.join(m.upper() for m in ms):10} {p}   {'; '.join(v.get('summary', '') for v in ms.values())}\n")
    with open(f"{out}/request_fields.txt", "w") as f:
        for name in ("CompletionRequest", "ChatCompletionRequest", "TokenizeCompletionRequest", "TokenizeChatRequest", "DetokenizeRequest"):
            s = o["components"]["schemas"].get(name)
            if not s:
                continue
            f.write(f"## {name} (required: {', '.join(s.get('required', []))})\n")
            for k, v in s["properties"].items():
                t = v.get("type") or "|".join(x.get("type") or x.get("$ref", "").split("/")[-1] for x in v.get("anyOf", [])) or v.get("$ref", "").split("/")[-1]
                f.write(f"{k}: {t} = {json.dumps(v.get('default', '-'))}\n")
            f.write("\n")
st, _, t = ask("GET", "/metrics")
if st == 200:
    seen, typ, hlp = {}, {}, {}
    for l in t.splitlines():
        if l.startswith("# TYPE "):
            typ[l.split()[2]] = l.split()[3]
        elif l.startswith("# HELP "):
            hlp[l.split()[2]] = l.split(None, 3)[3] if len(l.split(None, 3)) > 3 else ""
        elif l:
            m = re.match(r"([a-zA-Z_:0-9]+)(\{(.*)\})? ", l)
            if m:
                seen.setdefault(m[1], []).append(m[3] or "")
    with open(f"{out}/metrics.txt", "w") as f:
        for n in (n for n in typ if not n.endswith("_created")):
            ss = sorted(k for k in seen if k == n or k in (n + "_bucket", n + "_sum", n + "_count", n + "_created", n + "_total"))
            lab = sorted({x.split("=")[0] for k in ss for l in seen[k] for x in re.findall(r'[a-z_]+="[^"]*"', l)})
            le = [re.search(r'le="([^"]*)"', l)[1] for l in seen.get(n + "_bucket", []) if 'le="' in l]
            le = list(dict.fromkeys(le))
            f.write(f"{typ[n]:9} {n} labels={','.join(lab)} {'le=' + ','.join(le) if le else ''}\n          {hlp.get(n, '')[:120]}\n")
