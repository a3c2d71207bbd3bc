#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""usage: tool_forms.py FOLDER OUT - what vLLM's own parsers make of calls in several forms, as JSON
into OUT.  FOLDER has vLLM's wheel, unpacked; of it only vllm/tool_parsers runs, and what that
imports beside pydantic, openai, regex and partial_json_parser is a stand-in: neither torch nor a
tokenizer is needed for texts that are whole."""
import importlib
import importlib.abc
import importlib.machinery
import json
import pathlib
import sys
import types
import unittest.mock

PARSERS = {"llama3_json": ("llama_tool_parser", "Llama3JsonToolParser"),
           "phi4_mini_json": ("phi4mini_tool_parser", "Phi4MiniJsonToolParser"),
           "jamba": ("jamba_tool_parser", "JambaToolParser"),
           "deepseek_v3": ("deepseekv3_tool_parser", "DeepSeekV3ToolParser"),
           "deepseek_v31": ("deepseekv31_tool_parser", "DeepSeekV31ToolParser"),
           "internlm": ("internlm2_tool_parser", "Internlm2ToolParser")}
ARGUMENTS = ('{}', '{"city": "Paris"}', '{"a": 1.5, "b": [1, {"c": null}]}', '{"s": "}{][\\"\\\\"}',
             '{"u": "grüße \\u00e9 世"}', '{"n": 12345678, "t": true, "f": false}',
             '{"deep": {"a": {"b": {"c": [[], {}]}}}}', '{"nl": "a\\nb\\tc"}', '{ "sp" :  [ 1 , 2 ] }')
PLAIN = ("", "plain", "Well, {not} [calls] at <all>.", '{"name": "f"}', "a < b and b > c", "functools",
         "<tool_call>x")
SEPARATOR, SECTION, SECTION_END = "<｜tool▁sep｜>", "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CALL, CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"


class StandIn(types.ModuleType):
    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        setattr(self, name, unittest.mock.MagicMock())
        return self.__dict__[name]


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands in for vLLM but for its parsers, and for what is not installed."""

    def find_spec(self, name, _path, _target=None):
        root = name.split(".")[0]
        is_there = root in sys.stdlib_module_names or importlib.machinery.PathFinder.find_spec(root)
        if name.startswith("vllm.tool_parsers.") or (root != "vllm" and is_there):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return StandIn(spec.name)

    def exec_module(self, module):
        pass


class Values:
    def __init__(self, **members):
        self.__dict__.update(members)


class Parser:
    def __init__(self, tokenizer, tools=None):
        self.model_tokenizer, self.tools = tokenizer, tools

    @property
    def vocab(self):
        return types.SimpleNamespace(get=lambda _token, _other=None: 1)


def prepare(folder):
    for name in ("vllm", "vllm.tool_parsers"):
        module = types.ModuleType(name)
        module.__path__ = [str(folder / name.replace(".", "/"))]
        sys.modules[name] = module
    for name in ("vllm.tool_parsers.abstract_tool_parser", "vllm.tool_parsers.utils"):
        sys.modules[name] = StandIn(name)
    sys.modules["vllm.tool_parsers.abstract_tool_parser"].ToolParser = Parser
    sys.meta_path.insert(0, Finder())
    protocol = importlib.import_module("vllm.entrypoints.generate.base.protocol")
    for name in ("ToolCall", "FunctionCall", "ExtractedToolCallInformation"):
        setattr(protocol, name, Values)
    importlib.import_module("vllm.envs").VLLM_TOOL_PARSE_REGEX_TIMEOUT_SECONDS = 5
    importlib.import_module("vllm.utils.mistral").is_mistral_tokenizer = lambda _tokenizer: False


def written(name, arguments, key="arguments"):
    return f'{{"name": "{name}", "{key}": {arguments}}}'


def texts(form, one, other):
    first, second, third = written("f", one), written("g", other, "parameters"), written("g", other)
    if form == "llama3_json":
        return [first, written("f", one, "parameters"), "<|python_tag|>" + first, f"{first}; {second}",
                f"{first};{third} ; " + written("h", "{}")]
    if form == "phi4_mini_json":  # whose expression ends at the first ]
        return [] if "[" in one + other else [f"functools[{first}]", f"functools[{first}, {second}]"]
    if form == "jamba":
        return [f"<tool_calls>[{first}]</tool_calls>", f"<tool_calls>[\n{first},\n{third}\n]</tool_calls>",
                f"Well. <tool_calls>[{first}]</tool_calls>"]
    if form == "internlm":
        return [f"<|action_start|><|plugin|>{first}<|action_end|>", f"<|action_start|><|plugin|>{first}",
                "Well.<|action_start|><|plugin|>\n" + written("f", one, "parameters") + "<|action_end|>\n"]

    def call(name, arguments):
        inside = f"{name}{SEPARATOR}{arguments}"
        if form == "deepseek_v3":
            inside = f"function{SEPARATOR}{name}\n```json\n{arguments}\n```"
        return CALL + inside + CALL_END
    return [SECTION + call("f", one) + SECTION_END, SECTION + call("f", one) + call("g", other) + SECTION_END,
            "Well. " + SECTION + call("f", one) + SECTION_END]


def main():
    prepare(pathlib.Path(sys.argv[1]))
    cases = []
    for form, (module, name) in PARSERS.items():
        parser = getattr(importlib.import_module("vllm.tool_parsers." + module), name)(unittest.mock.MagicMock())
        pairs = [(one, ARGUMENTS[(i + 3) % len(ARGUMENTS)]) for i, one in enumerate(ARGUMENTS)]
        for text in [text for pair in pairs for text in texts(form, *pair)] + list(PLAIN):
            found = parser.extract_tool_calls(text, unittest.mock.MagicMock())
            calls = [[call.function.name, call.function.arguments] for call in found.tool_calls]
            cases.append({"form": form, "text": text, "content": found.content,
                          "calls": calls if found.tools_called else []})
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    pathlib.Path(sys.argv[2]).write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
