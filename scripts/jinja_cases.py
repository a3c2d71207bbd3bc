#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes templates with what jinja2 makes of them, as transformers sets it up.

usage: jinja_cases.py SEED COUNT GOLDEN_CHATS CHAT_TEMPLATE > cases.json

Of the language one by one, of random templates from a grammar, and of a published chat
template over random conversations.  [{"template", "variables", "text" | "error"}]
"""
import json
import random
import sys

import jinja2
import jinja2.ext
import jinja2.sandbox


class Generation(jinja2.ext.Extension):
    """{% generation %}: marks what the model said; prints it."""
    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


def environment():
    made = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"])

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    return made


FEATURES = r"""
{{ 'a' }}{{ "b\n\x41é\\" }}{{ 'it''s' }}
{{ 1 + 2 * 3 - 4 // 3 % 2 }} {{ 7 / 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 2 ** 3 ** 2 }} {{ -2 ** 2 }}
{{ 1.5 * 2 }} {{ 1e20 }} {{ 1e-7 }} {{ 0.1 + 0.2 }} {{ 100.0 }} {{ 1_000 }} {{ 3.0 // 2 }} {{ -3.5 % 2 }}
{{ true and 'x' or 'y' }} {{ not none }} {{ none }} {{ True }} {{ [] or {} }}
{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 'a' in 'abc' }} {{ 4 not in numbers }} {{ 'b' in {'b': 1} }}
{{ [1, 'two', 3.0, none, true, {'k': [1]}, (1,), ()] }}
{{ "it's" ~ ["it's", 'say "hi"', "both ' and \"", "new\nline\t\x01é\u200b"] }}
{{ numbers[0] }} {{ numbers[-1] }} {{ numbers[1:] }} {{ numbers[::-1] }} {{ numbers[-2:] }} {{ word[1:3] }} {{ word[::-1] }} {{ word[::2] }}
{{ numbers[5:1:-2] }} {{ numbers[99] }} {{ word[99] }} {{ numbers[-99:99] }}
{{ missing }} {{ missing is defined }} {{ missing | default('d') }} {{ '' | default('d', true) }} {{ none | default('n') }}
{{ user.name }} {{ user['name'] }} {{ user.missing is undefined }} {{ user.get('x') }} {{ user.get('x', 5) }} {{ user.items is defined }}
{{ missing.x }}
{{ user.name.first.second }}
{{ missing + 1 }}
{{ 'a' + 1 }}
{{ 1 + 'a' }}
{{ nothing() }}
{{ user.name() }}
{{ 'a' < 1 }}
{{ 1 // 0 }}
{{ 'x' if false }}|{{ 'x' if true else 'y' }}|{{ 'x' if 0 else 'y' if 0 else 'z' }}
{{ 'a' * 3 }} {{ [1] * 2 }} {{ [1] + [2] }} {{ 'ab' ~ 1 ~ none ~ 2.5 }} {{ "%s-%d-%.2f%%" % ('a', 3, 1.239) }} {{ "%05.1f|%x" | format(3.14159, 255) }}
{{ 'Hello World' | upper | lower | title | capitalize }} {{ "hELLO wORLD it's" | title }} {{ 'straße' | upper }}
{{ '  x y ' | trim }}|{{ 'xxabxx' | trim('x') }}|{{ '  a '.strip() }}|{{ 'abc'.lstrip('ab') }}|{{ 'abcc'.rstrip('c') }}
{{ 'a,b,,c'.split(',') }} {{ ' a  b '.split() }} {{ 'a b c'.split(' ', 1) }} {{ 'a-b-c'.rsplit('-', 1) }} {{ ' a b  c '.split(none, 1) }} {{ 'a\nb\r\nc\n'.splitlines() }}
{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith(('x', 'bc')) }} {{ 'aXbX'.replace('X', '--') }} {{ 'aXbX'.replace('X', '-', 1) }} {{ 'ab'.replace('', '.') }} {{ 'abc' | replace('b', 'x') }}
{{ 'abcabc'.find('c') }} {{ 'abcabc'.rfind('c') }} {{ 'x'.find('y') }} {{ 'aaa'.count('a') }} {{ ', '.join(['a', 'b']) }} {{ '12'.isdigit() }} {{ 'a1'.isalnum() }} {{ 'AB'.isupper() }} {{ 'é'.isalpha() }} {{ '7'.zfill(3) }}
{{ 'pre-x'.removeprefix('pre-') }} {{ 'x.py'.removesuffix('.py') }} {{ 'äöü'[1] }} {{ 'äöü' | length }} {{ 'äöü😀'[::-1] }}
{{ numbers | length }} {{ user | length }} {{ missing | length }} {{ numbers | first }} {{ numbers | last }} {{ numbers | sum }} {{ numbers | max }} {{ numbers | min }} {{ numbers | join('+') }} {{ numbers | reverse | list }} {{ 'abc' | reverse }}
{{ people | map(attribute='name') | join(', ') }} {{ ['a', 'b'] | map('upper') | list }} {{ people | selectattr('age') | map(attribute='name') | list }} {{ people | selectattr('age', 'gt', 30) | map(attribute='name') | list }} {{ people | rejectattr('name', 'equalto', 'Bo') | list | length }}
{{ numbers | select('odd') | list }} {{ numbers | reject('odd') | list }} {{ [0, 1, '', 'a'] | select | list }} {{ people | sort(attribute='age') | map(attribute='name') | list }} {{ ['b', 'A', 'c'] | sort }} {{ [3, 1, 2] | sort(reverse=true) }} {{ [1, 1, 2, 'A', 'a'] | unique | list }}
{{ {'b': 1, 'a': 2} | dictsort }} {{ {'b': 1, 'a': 2}.items() | list }} {{ user.keys() | list }} {{ user.values() | list }} {{ {'b': 1} | items | list }} {{ {'b': 2, 'a': 1} | dictsort(by='value') }}
{{ user | tojson }} {{ user | tojson(indent=2) }} {{ [1.0, 2.5, none, true, "é\"\n\u0007/"] | tojson }} {{ {} | tojson(indent=2) }} {{ {'b': [1, {'a': []}], 'a': 1} | tojson(indent=4, sort_keys=true) }} {{ [1, 2] | tojson(separators=(',', ':')) }}
{{ missing | tojson }}
{{ '42' | int }} {{ 'x' | int }} {{ 'x' | int(7) }} {{ 3.9 | int }} {{ '3.9' | int }} {{ '2.5' | float }} {{ 'x' | float }} {{ 2.5 | round }} {{ 3.14159 | round(2) }} {{ -3 | abs }} {{ 2.1 | round(0, 'ceil') }} {{ 5 | string }}
{{ '<a & "b">' | e }} {{ '<a>' | safe }} {{ 'a\nb\n\nc' | indent }} {{ 'a\nb' | indent(2, true) }}
{{ 1 is number }} {{ 1 is integer }} {{ 1.0 is float }} {{ true is boolean }} {{ true is number }} {{ 'a' is string }} {{ user is mapping }} {{ numbers is iterable }} {{ user is sequence }} {{ 1 is iterable }} {{ none is none }} {{ 4 is even }} {{ 4 is odd }} {{ 4 is divisibleby 2 }} {{ 4 is divisibleby(3) }} {{ 1 is eq 1 }} {{ 1 is ne 1 }} {{ 'a' is in 'abc' }} {{ 1 is sameas true }} {{ 'a' is lower }} {{ 1 is true }} {{ range is callable }} {{ missing is not defined }} {{ 3 is gt 2 and 2 is lt 3 }}
{% for x in numbers %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.revindex }}{{ loop.length }}{{ loop.cycle('a', 'b') }}{{ loop.previtem }}{{ loop.nextitem }} {% endfor %}
{% for x in [1, 1, 2] %}{{ loop.changed(x) }}{% endfor %}
{% for x in numbers if x is odd %}{{ x }}{{ loop.length }}{% else %}none{% endfor %}{% for x in [] %}{% else %}empty{% endfor %}
{% for k, v in user.items() %}{{ k }}={{ v }};{% endfor %}{% for (a, b) in [(1, 2)] %}{{ a }}{{ b }}{% endfor %}
{% for x in numbers %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 4 %}{% break %}{% endif %}{{ x }}{% endfor %}
{% for c in 'abc' %}{{ c }}.{% endfor %}{% for k in user %}{{ k }}{% endfor %}{% for x in missing %}{% endfor %}
{% for x in 5 %}{% endfor %}
{% set a = 1 %}{% for x in numbers %}{% set a = x %}{% endfor %}{{ a }}{% if true %}{% set a = 9 %}{% endif %}{{ a }}
{% set ns = namespace(n=0, l=[]) %}{% for x in numbers %}{% set ns.n = ns.n + x %}{% set ns.l = ns.l + [x] %}{% endfor %}{{ ns.n }} {{ ns.l }}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set t = (1, 2) %}{{ t }}{% set x %}text {{ 1 }}{% endset %}[{{ x }}]{% set y | upper %}shout{% endset %}{{ y }}
{% set a, b = [1] %}
{% set missing.x = 1 %}
{% macro m(a, b=2, c='z') %}<{{ a }}{{ b }}{{ c }}>{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(1, c=4) }}{{ m() }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}
{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}inner{% endcall %}{% macro n() %}{{ caller(1, 2) }}{% endmacro %}{% call(a, b) n() %}{{ a + b }}{% endcall %}
{% macro fac(n) %}{{ 1 if n < 2 else n * (fac(n - 1) | int) }}{% endmacro %}{{ fac(10) }}
{% filter upper %}loud {{ 'x' }}{% endfilter %}{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a }}
{% raw %}{{ not }} {% this %}{% endraw %}{# gone #}{% generation %}said{% endgeneration %}
{{ range(3) | list }} {{ range(1, 10, 3) | list }} {{ range(3, 0, -1) | list }} {{ dict(a=1) }} {{ range(0) | list }}
{{ raise_exception('no ' ~ 'way') }}
{{ user.pop('name') }}
{{ numbers.append(1) }}
{{ 'a' | nofilter }}
{{ 'a' is notest }}
{% if %}{% endif %}
{% for x in y %}
{{ 'open
{% endif %}
{{ }}
{% include 'x' %}
{{ a.b. }}
{{ (1, 2)[0] }} {{ [[1, 2], [3]][0][1] }} {{ {'a': {'b': 'c'}}.a.b }} {{ {'a': 1}['a'] }} {{ 'abc'.upper().lower()[0] }} {{ numbers.0 }}
{{ -numbers[0] }} {{ +1 }} {{ not true == false }} {{ (1 if true else 2) + 1 }} {{ 'x' if 'a' is string and 1 is number else 'y' }} {{ -1 | abs }} {{ 1 - 1 | string }}
{{ "a" "b" 'c' }} {{ '{{' }} {{ '}}' }} {{ "%}" }} {{ {'a': {'b': 1}} }} {{ {1: 2, none: 3, true: 4} }}
{{ user == {'age': 40, 'name': 'Ann', 'tags': ['x', 'y']} }} {{ [1] == [1.0] }} {{ (1,) == [1] }} {{ 1 == true }} {{ none == false }} {{ missing == missing }}
{{ people | map(attribute='nope', default='-') | list }} {{ [[1, 2], [3, 4]] | map('first') | list }} {{ [[1, 2], [3, 4]] | map(attribute=1) | list }} {{ [{'a': {'b': 1}}] | map(attribute='a.b') | list }} {{ [1.5, 2] | sum }} {{ people | sum(attribute='age') }}
""".strip("\n").split("\n")

SPACING = ["{% if true %}\nx\n{% endif %}\ny\n", "  {% if true %}\n  x\n  {% endif %}\n  y",
           "a  {%- if true -%}  b  {%- endif -%}  c", "a\n  {{- 1 -}}\n b", "  {{ 1 }}  \n",
           "a {# c #}\n b", "  {# c #}\nb", "a\n\n  {%- set x = 1 %}\n\nb", "a\n{%+ if true %}x{% endif +%}\n y",
           "x {% if true %}y{% endif %} z\n\n", "\n\n{% for i in [1,2] %}\n - {{ i }}\n{% endfor %}\nend\n",
           "{% raw -%}\n  a {{ b }}\n{%- endraw %} c", "{% raw %}\n {% raw2 %}\n{% endraw %}\nc", "a\r\nb\rc\r\n",
           "{%- for i in [1, 2] -%}\n{{ i }}\n{%- endfor -%}\n", "\t{% if 1 %}\t\n\t{%endif%}\t|"]

VARIABLES = {"numbers": [1, 2, 3, 4, 5], "word": "hello", "user": {"name": "Ann", "age": 40, "tags": ["x", "y"]},
             "people": [{"name": "Bo", "age": 31}, {"name": "Al", "age": 0}, {"name": "Cy", "age": 25}],
             "empty": [], "text": "  Some täxt, with\nlines 😀 ", "flag": True, "pi": 3.25}


class Grammar:
    """Random templates, mostly of values that go together."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def pick(self, *choices):
        return self.random.choice(choices)

    def text(self, depth):
        r = self.pick
        if depth <= 0:
            return r("word", "text", "user.name", "'x'", "\"a b\"", "'é😀'", "''", "(numbers | join)")
        inner = self.text(depth - 1)
        return r(f"({inner} ~ {self.any(depth - 1)})", f"({inner} + {self.text(depth - 1)})", f"{inner}.strip()",
                 f"{inner}.upper()", f"({inner} | lower)", f"({inner} | trim)", f"({inner} | title)",
                 f"{inner}[{self.number(0)}:]", f"{inner}[:{self.number(0)}]", f"{inner}[::-1]",
                 f"{inner}.replace({self.text(0)}, {self.text(0)})", f"({self.items(depth - 1)} | join(', '))",
                 f"({inner} | replace('a', 'bb'))", f"({inner} if {self.truth(depth - 1)} else {self.text(0)})",
                 f"({self.any(depth - 1)} | string)", f"({self.any(depth - 1)} | tojson)", f"{inner}.split(' ')[0]",
                 f"({inner} | capitalize)", f"({inner} | default('q', true))", f"{inner}.lstrip('x ')")

    def number(self, depth):
        r = self.pick
        if depth <= 0:
            return r("0", "1", "2", "-1", "7", "pi", "(numbers | length)")
        a, b = self.number(depth - 1), self.number(depth - 1)
        return r(f"({a} + {b})", f"({a} - {b})", f"({a} * {b})", f"({a} // {b})", f"({a} % {b})",
                 f"({self.text(depth - 1)} | length)", f"({self.items(depth - 1)} | length)", f"({a} | abs)",
                 f"({a} | int)", f"-{a}", f"({a} / {b})", f"{self.text(depth - 1)}.find('a')",
                 f"numbers[{self.pick('0', '1', '-1')}]")

    def items(self, depth):
        r = self.pick
        if depth <= 0:
            return r("numbers", "empty", "user.tags", "[1, 'a']", "(1, 2)", "['b', 'a']")
        a = self.items(depth - 1)
        return r(f"{a}[::-1]", f"{a}[1:]", f"({a} | list)", f"({a} | reverse | list)", f"({a} | map('string') | list)",
                 f"[{self.any(depth - 1)}, {self.any(depth - 1)}]", f"({a} | select('string') | list)",
                 f"({a} | unique | list)", f"{self.text(depth - 1)}.split('e')", "(people | map(attribute='name') | list)",
                 f"({a} | reject('number') | list)", "(user.items() | list)", "(user | dictsort)")

    def truth(self, depth):
        r = self.pick
        if depth <= 0:
            return r("true", "false", "flag", "missing is defined", "numbers", "empty", "loop is defined")
        return r(f"({self.truth(depth - 1)} and {self.truth(depth - 1)})", f"(not {self.truth(depth - 1)})",
                 f"({self.truth(depth - 1)} or {self.any(0)})", f"({self.number(depth - 1)} < {self.number(0)})",
                 f"({self.text(depth - 1)} in {self.text(0)})", f"({self.any(depth - 1)} == {self.any(0)})",
                 f"({self.any(depth - 1)} is {r('string', 'number', 'mapping', 'iterable', 'none', 'defined', 'true')})",
                 f"{self.text(depth - 1)}.startswith({self.text(0)})", f"({self.any(0)} in {self.items(depth - 1)})")

    def any(self, depth):
        return self.pick(self.text, self.number, self.items, self.truth, lambda _: "user", lambda _: "missing",
                         lambda _: "none")(depth)

    def block(self, depth):
        r, dash = self.pick, lambda: self.pick("", "", "-")
        space = self.pick("", " ", "\n", "\n  ", "text\n", "a  ")
        if depth <= 0:
            return f"{space}{{{{{dash()} {self.any(2)} {dash()}}}}}{self.pick('', chr(10), ' b')}"
        body, other = self.body(depth - 1), self.body(depth - 1)
        b, e = f"{{%{dash()}", f"{dash()}%}}"
        return space + r(f"{b} if {self.truth(2)} {e}{body}{b} else {e}{other}{b} endif {e}",
                         f"{b} for i in {self.items(1)} {e}{body}{{{{ loop.index }}}}{{{{ i }}}}{b} endfor {e}",
                         f"{b} set v = {self.any(2)} {e}{body}{{{{ v }}}}",
                         f"{b} set v {e}{body}{b} endset {e}{{{{ v }}}}",
                         f"{b} macro m(a, b={self.any(0)}) {e}{body}{{{{ a }}}}{b} endmacro {e}{{{{ m({self.any(1)}) }}}}",
                         f"{b} filter {r('upper', 'trim', 'title')} {e}{body}{b} endfilter {e}",
                         f"{b} with w = {self.any(1)} {e}{body}{{{{ w }}}}{b} endwith {e}")

    def body(self, depth):
        return "".join(self.block(self.random.randint(0, depth)) for _ in range(self.random.randint(1, 3)))


def words(rand):
    pieces = ["Hello", " world", "\n", "<think>\n", "</think>", "\n\n", "é😀", "  ", "<tool_response>", "{\"a\": 1}", "'q'", "\\"]
    return "".join(rand.choice(pieces) for _ in range(rand.randint(0, 5)))


def conversation(rand):
    messages = []
    if rand.random() < 0.5:
        messages.append({"role": "system", "content": words(rand)})
    for _ in range(rand.randint(1, 4)):
        messages.append({"role": "user", "content": words(rand)})
        answer = {"role": "assistant", "content": words(rand)}
        if rand.random() < 0.4:
            arguments = {"x": rand.choice([1, 2.5, None, True, [1, "ü"], {"y": "\""}])}
            answer["tool_calls"] = [{"type": "function", "function": {"name": "f", "arguments": arguments}}]
            messages += [answer, {"role": "tool", "content": words(rand)}]
        elif rand.random() < 0.3:
            answer["reasoning_content"] = words(rand)
            messages.append(answer)
        else:
            messages.append(answer)
    if rand.random() < 0.6:
        messages.append({"role": "user", "content": words(rand)})
    variables = {"messages": messages, "add_generation_prompt": rand.random() < 0.5}
    if rand.random() < 0.4:
        variables["tools"] = [{"type": "function", "function": {
            "name": "f", "description": words(rand), "parameters": {"type": "object", "properties": {"x": {}}}}}]
    if rand.random() < 0.3:
        variables["enable_thinking"] = rand.random() < 0.5
    return variables


def case_of(made, template, variables):
    case = {"template": template, "variables": variables}
    try:
        text = made.from_string(template).render(**variables)
        if len(text) > 100_000:
            return None
        case["text"] = text
    except Exception as error:  # whatever jinja2 and Python raise is an error of ours too
        case["error"] = str(error)
    return case


def main():
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    made, rand, grammar = environment(), random.Random(seed), Grammar(seed)
    cases = [case_of(made, template, VARIABLES) for template in FEATURES + SPACING]
    cases += [case_of(made, grammar.body(3), VARIABLES) for _ in range(count)]
    for path in sys.argv[3:]:
        with open(path, encoding="utf-8") as file:
            template = json.load(file)["chat_template"]
        cases += [case_of(made, template, conversation(rand)) for _ in range(count // 10)]
    json.dump([case for case in cases if case], sys.stdout)


main()
