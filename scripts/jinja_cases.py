#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes templates with what jinja2 makes of them, as transformers sets it up.

usage: jinja_cases.py SEED COUNT CHAT_TEMPLATE... > cases.json

Of the language one by one, of random templates from a grammar, and of published chat
templates (tokenizer_config.json, or NAME.jinja) over random conversations:
[{"template", "variables", "text" | "error"}], with a "name" where the template is
published.  It is always the beginning of 1970.
"""
import collections.abc
import datetime
import functools
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
                          sort_keys=sort_keys, default=plain)

    def plain(value):
        # The one difference: transformers refuses `tools | map(...) | tojson`, which
        # llama.cpp's own templates have.
        if isinstance(value, collections.abc.Iterator):
            return list(value)
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = datetime.datetime.fromtimestamp(0).strftime
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
{{ '<'|safe + '<' }} {{ '<' + '<'|safe + '&' }} {{ '<'|e|e }} {{ ('<' ~ '<'|e) + '<' }} {{ ('<b> '|safe).strip() + '>' }} {{ ('<b>'|safe)[1:] + '<' }} {{ ('<'|safe) * 2 + '<' }} {{ [('<'|safe)] }} {{ '<%s>'|safe % '<' }} {{ '%s'|safe % ('<'|safe) }} {{ '<'|safe|upper + '<' }} {{ '<'|safe|trim + '<' }} {{ '<'|safe|title + '<' }} {{ ('<,<'|safe).split(',')[0] + '<' }} {{ (','|safe).join(['<', 1]) }} {{ ('a'|safe).replace('a', '<') }} {{ '<'|safe|replace('<', '>') + '<' }} {{ ['<'|safe]|join + '<' }} {{ ('<'|safe|tojson) + '<' }} {{ '<'|safe is string }} {{ '<'|safe == '<' }} {{ '<'|e is escaped }} {{ ('<%s'|safe|format('<')) + '<' }} {{ ('a\n<'|safe|indent) + '<' }} {{ 5|safe + '<' }}
{% set g = numbers | map('string') %}{{ g | join }}{{ g | join }}{{ 'x' if g }}{{ 'y' if [] | select }}{{ g is iterable }}{{ g is sequence }}{{ none | selectattr('a') | list }}{{ 0 | map('nofilter') | list }}{{ numbers | select('odd') | first }}
{% set g = numbers | select %}{{ 2 in g }}{{ g | list }}{{ g | first is defined }}
{{ numbers | map('string') | length }}
{{ numbers | select | last }}
{{ numbers | reverse | length }}
{{ (numbers | unique) + [1] }}
{{ (numbers | reject('odd'))[0] }}|{{ numbers | reverse | tojson }}
{{ (numbers | map('string'))[1:] }}
{{ two }} {{ long }} {{ two + 1 }} {{ two is float }} {{ long + 1 }} {{ [two, long, 1e3] | tojson }} {{ two == 2 }} {{ two | int }}
{{ user == {'age': 40, 'name': 'Ann', 'tags': ['x', 'y']} }} {{ [1] == [1.0] }} {{ (1,) == [1] }} {{ 1 == true }} {{ none == false }} {{ missing == missing }}
{{ 'abab'.find('a', 1) }} {{ 'abab'.find('a', 3) }} {{ 'abab'.rfind('b', 0, 3) }} {{ 'abab'.rfind('ab', -3) }} {{ 'abab'.index('b', 2) }} {{ 'abab'.rindex('a') }} {{ 'abab'.rindex('a', none, 2) }} {{ 'äöäö'.find('ö', -2, 99) }} {{ 'abc'.find('', 3) }} {{ 'abc'.find('', 4) }} {{ 'abc'.rfind('') }} {{ 'abc'.rfind('', 0, 1) }} {{ ''.find('') }} {{ 'abc'.find('c', -99, -1) }}
{{ 'abab'.count('ab', 1) }} {{ 'aaaa'.count('a', 1, -1) }} {{ 'abc'.count('') }} {{ 'abc'.count('', 1, 2) }} {{ 'abc'.count('', 4) }} {{ 'äöä'.count('ä', 1) }}
{{ 'abab'.startswith('b', 1) }} {{ 'abab'.startswith(('x', 'ba'), 1) }} {{ 'abab'.endswith('a', 0, 3) }} {{ 'abab'.endswith('abab', 1) }} {{ 'abc'.startswith('', 3) }} {{ 'abc'.startswith('', 4) }} {{ 'abc'.endswith('', 9) }} {{ 'abc'.startswith('c', -1) }}
{{ 'abc'.startswith(1) }}
{{ 'abc'.startswith(('x', 1)) }}
{{ 'abc'.startswith(['a']) }}
{{ 'abc'.index('x', 1) }}
{{ 'abc'.rindex('x') }}
{{ 'abc'.find() }}
{{ 'abc'.find('a', 1, 2, 3) }}
{{ 'abc'.find('a', start=1) }}
{{ 'abc'.find('a', 'b') }}
{{ 'abc'.upper(1) }}
{{ 'abc'.strip(1) }}
{{ 'abc'.strip('a', 'b') }}
{{ 'abc'.replace('a') }}
{{ 'abc'.split(1) }}
{{ 'abc'.split('b', maxsplits=1) }}
{{ 'abc'.zfill() }}
{{ 'abc'.join() }}
{{ user.get() }}
{{ user.get('a', 'b', 'c') }}
{{ user.items(1) }}
{{ numbers.index(9) }}
{{ numbers.index(1, 1) }}
{{ [1, 2, 1].index(1, 1) }} {{ [1, 2, 1].index(1, -1) }} {{ [1, 2, 1].index(2, 0, 2) }} {{ (1, 2, 1).index(1, 1) }} {{ [1, 2, 1].count(1) }} {{ (1, 2).count(3) }}
{{ [1, 2].count() }}
{{ 'ff' | int(0, 16) }} {{ '0x1F' | int(0, 16) }} {{ '0b11' | int(base=0) }} {{ '0o17' | int(0, 0) }} {{ '077' | int(9, 0) }} {{ '077' | int }} {{ '1_000' | int }} {{ '1__0' | int(5) }} {{ '_1' | int(5) }} {{ ' 12\n' | int }} {{ '-0x_1f' | int(0, 0) }} {{ 'zz' | int(base=36) }} {{ '12' | int(7, 1) }} {{ '1e3' | int }} {{ 'inf' | int(4) }} {{ 'nan' | int(4) }} {{ '' | int(3) }} {{ none | int(default=8) }} {{ [] | int('d') }} {{ 'x' | int(none) }} {{ true | int }} {{ '0x10' | int(2) }} {{ '+5' | int }} {{ '5.9.1' | int(6) }} {{ '--5' | int(6) }}
{{ ' 1.5 ' | float }} {{ '1_0.5' | float }} {{ '1e3' | float }} {{ 'Infinity' | float }} {{ '-inf' | float }} {{ '0x10' | float(2.5) }} {{ '1.' | float }} {{ '.5' | float }} {{ '.' | float(7) }} {{ 'x' | float('d') }} {{ none | float(none) }} {{ 3 | float }} {{ true | float }}
{{ 'x' | int(1, 2, 3) }}
{{ 'x' | int(defaul=1) }}
{{ "é\u007f😀<\u2028" | tojson(ensure_ascii=true) }} {{ "é\u007f😀" | tojson }} {{ {'ü': 'ß'} | tojson(true) }} {{ [1, {'a': 2}] | tojson(indent='\t') }} {{ [1, [2]] | tojson(indent=0) }} {{ [1] | tojson(indent=-2) }} {{ {'a': [1, 2]} | tojson(indent=2, separators=(';', '=')) }} {{ {'b': 1, 'a': {'d': 1, 'c': 2}} | tojson(sort_keys=true) }} {{ [1, 2] | tojson(separators=none) }} {{ [1] | tojson(indent=true) }} {{ {1: 2, none: 3, true: 4, 1.5: 5} | tojson }} {{ [1] | tojson(false, 1) }}
{{ [1] | tojson(separators=(',',)) }}
{{ [1] | tojson(indnt=2) }}
{{ 'a,b,c'.partition(',') }} {{ 'abc'.partition(',') }} {{ 'a,b,c'.rpartition(',') }} {{ 'abc'.rpartition(',') }} {{ 'ab'.partition('ab') }} {{ 'äxöxü'.rpartition('x')[0] }}
{{ 'a'.partition('') }}
{{ 'a'.ljust(3) }}| {{ 'a'.rjust(3, '*') }} {{ 'ab'.center(5) }}| {{ 'a'.center(4, '.') }} {{ 'abc'.center(6, '.') }} {{ 'é'.ljust(3, 'ü') }} {{ 'abc'.ljust(2) }} {{ '-7'.zfill(4) }} {{ '+'.zfill(3) }} {{ ''.zfill(2) }} {{ 'abc'.zfill(-1) }} {{ 'a' | center(5) }}| {{ 5 | center(4) }}| {{ 'a' | center | length }}
{{ 'a'.ljust(3, 'ab') }}
{{ 'a'.ljust('3') }}
{{ 'Straße'.casefold() }} {{ 'aBc ß'.swapcase() }} {{ 'Hello World'.istitle() }} {{ 'HELLO'.istitle() }} {{ ''.istitle() }} {{ 'Hello world'.istitle() }} {{ "They're" .title() }} {{ 'a\tb\tc'.expandtabs(4) }} {{ '\tx\n\ty'.expandtabs() }} {{ 'a\tb'.expandtabs(0) }} {{ 'a\tb'.expandtabs(tabsize=2) }}
{{ '12'.isnumeric() }} {{ '½'.isnumeric() }} {{ '²'.isdigit() }} {{ '²'.isdecimal() }} {{ '½'.isdigit() }} {{ '12'.isdecimal() }} {{ ''.isdecimal() }} {{ 'a1²'.isalnum() }} {{ 'a b'.isalnum() }} {{ 'abc'.isascii() }} {{ 'é'.isascii() }} {{ ''.isascii() }} {{ 'a b'.isprintable() }} {{ 'a\n'.isprintable() }} {{ ' \t'.isspace() }} {{ 'Ab'.islower() }} {{ 'a1'.islower() }} {{ '1'.isupper() }}
{{ '  a b  c '.rsplit(none, 1) }} {{ ' a b '.rsplit(none, 0) }} {{ '  a  b c'.rsplit(maxsplit=2) }} {{ 'a b'.rsplit(none, 5) }} {{ '   '.rsplit(none, 0) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ 'a,b,c'.rsplit(sep=',') }} {{ ' a b c'.split(maxsplit=1) }} {{ 'a\nb\n'.splitlines(true) }} {{ 'a\nb'.splitlines(keepends=true) }} {{ '  a b c'.split(none, 0) }} {{ 'a b'.split(none, -9223372036854775807 - 1) }} {{ 'a,b'.split(',', -9223372036854775807 - 1) }}
{{ '{} {}'.format(1, 'a') }} {{ '{1}{0}{1}'.format('a', 'b') }} {{ '{x} {y[k]} {z.name}'.format(x=1, y={'k': 2}, z=user) }} {{ '{{}}{}'.format(3) }} {{ '{!r} {!s}'.format('a', none) }} {{ '{0[1]}'.format(numbers) }}
{{ '{:5}|{:<5}|{:>5}|{:^5}|{:*^7}|{:.2}'.format('ab', 'ab', 'ab', 'ab', 'ab', 'abc') }} {{ '{:5}|{:<5}|{:05}|{:+}|{: }|{:x}|{:#x}|{:X}|{:o}|{:b}|{:,}|{:_}|{:>+6}|{:^+6}|{:=+6}'.format(42, 42, 42, 42, 42, 255, 255, 255, 8, 5, 1234567, 1234567, 42, 42, 42) }} {{ '{:d}|{:5d}|{}|{:x}'.format(true, true, true, -255) }} {{ '{:#b} {:#010x} {:é>4}'.format(5, 255, 1) }}
{{ '{:.2f}|{:8.3f}|{:e}|{:g}|{:g}|{:%}|{:.1%}|{:,.2f}|{}|{:.3}|{:.3}|{:10}|{:+.1f}|{:08.2f}|{:.0f}|{:G}|{:E}'.format(3.14159, 2.5, 12345.678, 0.0001, 1e10, 0.25, 0.256, 1234567.891, 1.0, 3.14159, 3.0, 2.5, 2.25, -3.14159, 2.5, 1e-10, 1.5) }} {{ '{:f} {:.1f} {:5.1e}'.format(3, 7, 2) }} {{ '{:f} {:F} {:.2e} {}'.format(('in' ~ word[:0] ~ 'f') | float, ('nan' ~ word[:0]) | float, 0.0, ('-inf' ~ word[:0]) | float) }}
{{ '{} {0}'.format(1) }}
{{ '{2}'.format(1) }}
{{ '{x}'.format(1) }}
{{ '{'.format(1) }}
{{ '}'.format(1) }}
{{ '{:d}'.format('a') }}
{{ '{:d}'.format(1.5) }}
{{ '{:s}'.format(1) }}
{{ '{:.2}'.format(5) }}
{{ '{:5}'.format([1]) }}
{{ '{:5}'.format(none) }}
{{ '{!x}'.format(1) }}
{{ '{:=5}'.format('a') }}
{{ ('<{}>'|safe).format('<') + '<' }}
{{ '%5s|%-5s|%.2s|%5.1s|%r' % ('ab', 'ab', 'abc', 'abc', 'x') }} {{ '%5d|%-5d|%05d|%+d|% d|%x|%X|%#x|%o|%.3d|%i|%u' % (42, 42, 42, 42, 42, 255, 255, 255, 8, 7, 3.9, 5) }} {{ '%x %d' % (-255, -3.9) }} {{ '%e|%g|%G|%8.2f|%-8.2f|%08.2f|%+.1f' % (12345.678, 1e-5, 1e10, 3.14159, 3.14159, -3.14159, 2.25) }} {{ '%(a)s-%(b)05d' % {'a': 'x', 'b': 7} }} {{ '%s' % none }} {{ '%s' % [1] }} {{ '100%%' % () }} {{ '%(a)s' | format(a=1) }} {{ 'no' % {} }} {{ '%s' % {'a': 1} }} {{ '%d' % true }} {{ '%5s' % true }}
{{ '%d' % 'a' }}
{{ '%x' % 1.5 }}
{{ '%(a)s' % {'b': 1} }}
{{ '%(a)s' % 5 }}
{{ '%s %s' % 1 }}
{{ '%s' % (1, 2) }}
{{ '%' % 1 }}
{{ '%y' % 1 }}
{{ '%s' | format(1, a=2) }}
{{ [1, 2, 3, 4, 5] | batch(2) | list }} {{ [1, 2, 3] | batch(2, 'x') | list }} {{ [] | batch(3) | list }} {{ 'abc' | batch(2) | list }} {{ [1, 2, 3] | batch(linecount=3, fill_with=0) | list }} {{ range(7) | slice(3) | list }} {{ range(7) | slice(3, 'x') | list }} {{ [] | slice(2, 0) | list }} {{ [1] | slice(3, fill_with=none) | list }} {{ [1, 2] | slice(-1) | list }}
{{ [1] | slice(0) | list }}
{{ [1] | batch | list }}
{% for g in [{'k': 'b', 'v': 1}, {'k': 'A', 'v': 2}, {'k': 'a', 'v': 3}] | groupby('k') %}{{ g.grouper }}:{{ g.list | map(attribute='v') | list }}{% endfor %} {% for k, v in people | groupby('age') %}{{ k }}{{ v }}{% endfor %} {{ people | groupby('nope', default='z') | map('first') | list }} {{ [{'k': 'b'}, {'k': 'B'}, {'k': 'a'}] | groupby('k', case_sensitive=true) }} {{ [] | groupby('x') }} {{ [[1, 2], [1, 3]] | groupby(0) }} {{ [{'a': {'b': 2}}, {'a': {'b': 1}}] | groupby('a.b') | list }}
{{ people | groupby }}
{{ people | groupby('nope') }}
{{ 'Some long text here' | truncate(9) }} {{ 'Some long text here' | truncate(9, true) }} {{ 'Some long text here' | truncate(9, false, '!') }} {{ 'Some long text' | truncate(12) }} {{ 'Some long text' | truncate(12, leeway=0) }} {{ 'abcdefghijkl' | truncate(5, leeway=0) }} {{ 'äöüäöüäöü' | truncate(6, true, '…', 0) }} {{ 'short' | truncate }} {{ missing | truncate }}
{{ 'abc' | truncate(2) }}
{{ 'a b-c_d  é 1' | wordcount }} {{ '' | wordcount }} {{ 12.5 | wordcount }} {{ user | attr('items') is callable }} {{ user | attr('name') is defined }} {{ user | attr('nope') }} {{ 'ab' | attr('upper') is defined }}
{{ [1, 2.5] | sum(start=1) }} {{ [[1], [2]] | sum(start=[]) }} {{ [] | sum }} {{ people | sum('age', 100) }} {{ [] | sum(start=0.5) }} {{ [true, 2] | sum }} {{ [(1,), (2,)] | sum(start=()) }}
{{ ['a'] | sum(start='') }}
{{ ['a'] | sum }}
{{ 5 | round }} {{ 5 | round(1) }} {{ 15 | round(-1) }} {{ 25 | round(-1) }} {{ -15 | round(-1) }} {{ 149 | round(-2) }} {{ 7 | round(-9) }} {{ 1.115 | round(2) }} {{ 2.675 | round(2) }} {{ 2.5 | round }} {{ 3.5 | round }} {{ -2.5 | round }} {{ 1234.5 | round(-2) }} {{ 2.15 | round(1, 'floor') }} {{ 5 | round(0, 'ceil') }} {{ true | round }} {{ 2.567 | round(method='ceil', precision=1) }} {{ 1e20 | round(2) }} {{ 0.1 | round(20) }} {{ 2.5 | round(none) }}
{{ 9223372036854775807 | round(-18) }} {{ 4000000000000000000 | round(-19) }} {{ 1e-120 | round(130) }} {{ 1.5 | round(400) }} {{ 1500000000000000000 | round(-18) }} {{ 2500000000000000000 | round(-18) }}
{{ 5 | round(0, 'down') }}
{{ 'a' | round }}
{{ 'hello' | abs }}
{{ [{'a': 2, 'b': 1}, {'a': 1, 'b': 2}, {'a': 1, 'b': 1}] | sort(attribute='a,b') }} {{ ['b', 'A', 'a', 'B'] | sort(case_sensitive=true) }} {{ ['b', 'A'] | sort(true) }} {{ ['b', 'A', 'c'] | max }} {{ ['b', 'A', 'c'] | min(case_sensitive=true) }} {{ people | max(attribute='age') }} {{ ['a', 'A', 'b'] | unique(true) | list }} {{ people | unique(attribute='age') | map(attribute='name') | list }} {{ [] | max }} {{ {'b': 1, 'A': 2} | dictsort(true) }} {{ {'b': 1, 'a': 2} | dictsort(false, 'value', true) }} {{ {'a': 1, 'B': 2} | dictsort(reverse=true) }}
{{ {'a': 1} | dictsort(by='nope') }}
{{ [1, 2] | sort(nope=1) }}
{{ [1, 'a'] | sort }}
{{ 'a\n\nb\n' | indent(2, blank=true) }}| {{ 'a\nb' | indent('> ', true) }} {{ 'a\nb' | indent(width=1, first=true) }} {{ '' | indent(2, true) }}| {{ 'a\n' | indent(2, true, true) }}| {{ '\n\na' | indent(3, false, true) }}
{{ 'x' | indent(2, true, true, true) }}
{{ 'abc' | trim('ac') }} {{ '  a ' | trim(none) }}| {{ 5 | trim }} {{ 'aXa' | replace('a', 'b', 1) }} {{ 'aXa' | replace(old='a', new='b') }} {{ 121 | replace(1, 3) }} {{ 'aa' | replace('a', 'b', none) }} {{ 'aa' | replace('a', 'b', count=1) }} {{ 'aa' | replace('a', 'b', 0) }}
{{ 'a' | trim(1) }}
{{ 'a' | replace('a') }}
{{ 'a' | upper('x') }}
{{ none | default }} {{ missing | default }}| {{ missing | default(default_value=1, boolean=true) }} {{ 0 | d(5, boolean=true) }} {{ numbers | join }} {{ numbers | join(', ', attribute=none) }} {{ people | join(',', 'name') }} {{ people | join(d='-', attribute='age') }} {{ [1, none, missing] | join('|') }}
{{ people | selectattr('name', '==', 'Bo') | list }} {{ people | selectattr('age', '>', 10) | map(attribute='age') | list }} {{ [1, 2, 3] | select('<=', 2) | list }} {{ [1, 2, 3] | reject('!=', 2) | list }} {{ people | selectattr('age', 'divisibleby', 5) | list | length }} {{ people | selectattr('age', 'divisibleby', num=5) | list | length }} {{ ['a', 'b'] | select('in', ['a']) | list }} {{ ['a', 1] | select('in', seq=[1]) | list }} {{ people | map('attr', 'items') | list | length }} {{ people | map('default', default_value=1) | list | length }} {{ [[1, 2]] | map('join', '-') | list }} {{ [{'a': 1}, {}] | map(attribute='a', default=0) | list }} {{ [{}] | map(attribute='a.b', default='x') | list }} {{ [3.7] | map('round', 1, 'floor') | list }} {{ [[3, 1]] | map('sort', reverse=true) | list }}
{{ [1] | map | list }}
{{ [1] | map('nope') | list }}
{{ [1] | map(attribute='a', nope=1) | list }}
{{ [1] | select('nope') | list }}
{{ [1] | selectattr() | list }}
{{ [1] | select('divisibleby') | list }}
{{ [1] | select('odd', 1) | list }}
{{ 5 is odd(1) }}
{{ 5 is divisibleby }}
{{ 5 is divisibleby(1, 2) }}
{{ 5 is divisibleby(num=5) }} {{ 1.5 is odd }} {{ 3.0 is odd }} {{ 2.0 is even }} {{ -3 is odd }} {{ -3.0 is odd }} {{ 3.0 is divisibleby(-2) }} {{ 7.5 is divisibleby 2.5 }} {{ -4 is divisibleby 2 }} {{ true is odd }} {{ 'upper' is filter }} {{ 'nope' is filter }} {{ 'odd' is test }} {{ 'nope' is test }} {{ 3 is sameas(other=3) }} {{ 2 is in(seq=[2]) }} {{ 1 is eq(1) }}
{{ 1 is eq(b=1) }}
{{ 'a' is odd }}
{{ 5 is divisibleby 0 }}
{% set j = joiner() %}{{ j() }}a{{ j() }}b{{ j() }}c{% set p = joiner('|') %}{{ p() }}{{ p() }}{% set q = joiner(sep='-') %}{{ q() }}{{ q() }}{% for x in numbers %}{{ j() }}{{ x }}{% endfor %}
{% set c = cycler('a', 'b', 3) %}{{ c.current }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.next() }}{{ c.reset() }}{{ c.current }}{% for x in numbers %}{{ c.next() }}{% endfor %}
{{ cycler() }}
{{ joiner(1, 2) }}
{{ range() }}
{{ range(1, 2, 0) | list }}
{{ range('a') }}
{{ range(stop=3) }}
{{ range(1, 2, 3, 4) }}
{{ dict(user, x=1) }} {{ dict() }} {{ namespace(user, a=1).name }} {{ namespace(a=1).a }}
{{ raise_exception() }}
{{ strftime_now() }}
{{ strftime_now('%Y-%m-%d') }} {{ loop is defined }} {% for x in [1] %}{{ loop.cycle(1) }}{% endfor %}
{% for x in [1] %}{{ loop.cycle() }}{% endfor %}
{% for x in [1] %}{{ loop.cycle(a=1) }}{% endfor %}
{% for x in [1] %}{{ loop.changed(a=1) }}{% endfor %}
{% macro m(a, b=2) %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1) }} {{ m(1, 2, 3, 4) }} {{ m(1, c=5, d=6) }} {{ m(*[1, 2, 3]) }} {{ m(**{'a': 1, 'x': 2}) }} {{ m(1, *(7, 8), **{'y': 9}) }} {{ m(*[1], b=3) }} {{ m(*'ab') }}
{% macro m() %}{{ varargs }}{{ caller() }}{% endmacro %}{% call m(*[1, 2]) %}x{% endcall %}
{% macro m() %}{{ kwargs }}{% endmacro %}{{ m(1) }}
{% macro m() %}{{ varargs }}{% endmacro %}{{ m(a=1) }}
{{ 'abab'.find(*['a', 1]) }} {{ 'ab' | replace(*['a', 'b']) }} {{ '{}{x}'.format(*[1], **{'x': 2}) }} {{ range(*[1, 3]) | list }} {{ dict(**{'a': 1}) }} {{ 'a b'.split(**{'maxsplit': 1}) }} {{ 4 is divisibleby(*[2]) }} {{ [3.7] | map('round', *[1, 'floor']) | list }}
{{ dict(a=1, **{'a': 2}) }}
{{ range(*5) }}
{{ dict(**[1]) }}
{{ dict(**{1: 2}) }}
{{ range(**{'a': 1}, 2) }}
{{ range(*[1], *[2]) }}
{{ range(*[1], 2) }}
{{ range(a=1, *[2]) }}
{% for n in tree recursive %}{{ loop.depth }}{{ loop.depth0 }}{{ n.v }}[{{ loop(n.kids) }}]{% if not loop.last %},{% endif %}{% else %}-{% endfor %}
{% for n in tree recursive %}{% set x = loop %}{% for k in n.kids %}{{ k.v }}{{ loop.depth }}{{ x(k.kids) }}{% endfor %}{% endfor %}
{% for n in numbers if n is odd recursive %}{{ n }}{% if loop.first and loop.depth < 3 %}({{ loop(numbers[1:]) }}){% endif %}{% endfor %}
{% for n in tree recursive %}{{ loop() }}{% endfor %}
{% for n in numbers %}{{ loop(numbers) }}{% endfor %}
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
             "tree": [{"v": 1, "kids": [{"v": 2, "kids": []}, {"v": 3, "kids": [{"v": 4, "kids": []}]}]}, {"v": 5, "kids": []}],
             "empty": [], "text": "  Some täxt, with\nlines 😀 ", "flag": True, "pi": 3.25, "two": 2.0, "long": 9007199254740993}


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
                 f"({inner} | capitalize)", f"({inner} | default('q', true))", f"{inner}.lstrip('x ')",
                 f"{inner}.{r('swapcase', 'casefold', 'title', 'expandtabs')}()",
                 f"{inner}.{r('center', 'ljust', 'rjust')}({self.whole()}{r('', ', word[0]', ', text[8]')})",
                 f"{inner}.zfill({self.whole()})", f"{inner}.{r('r', '')}partition({self.text(0)})[{r('0', '1', '2', '-1')}]",
                 f"{inner}.{r('r', '')}split(none, {self.whole()}) | join('|')", f"({inner} | truncate({self.whole()}, {r('true', 'false')}, '.', 1))",
                 f"({inner} | indent({self.whole()}, {r('true', 'false')}, {r('true', 'false')}))",
                 f"({inner} | replace({self.text(0)}, 'z', {self.whole()}))",
                 f"({self.any(depth - 1)} | tojson({r('true', 'indent=1', 'sort_keys=true', 'ensure_ascii=true, indent=2')}))",
                 f"('%{self.percent()}' % {r(self.number(depth - 1), inner)})",
                 f"'{{:{self.spec()}}}'.format({r(self.number(depth - 1), inner)})")

    def whole(self):
        return self.pick("0", "1", "2", "3", "5", "9", "-1", "-4")

    def percent(self):
        r = self.pick
        return r("", "", "-", "+", " ", "0", "-+", "+0", "#") + r("", "3", "9", "12") + r("", "", ".0", ".1", ".3") + r(*"ssdrifexXogGE%")

    def spec(self):
        r = self.pick
        align, zero = r("", "", "<", ">", "^", "=", "*<", "é^", "0="), r("", "", "0")
        group = "" if zero or align == "0=" else r("", "", "", ",", "_")  # refused by name
        kind = r("", *"sdxXobeEfFgG%")
        sharp = r("", "", "#") if kind else ""  # so is this
        return align + r("", "", "+", " ", "-") + sharp + zero + r("", "3", "9", "12") + group + \
            r(".0", ".1", ".3", "", "") + kind

    def number(self, depth):
        r = self.pick
        if depth <= 0:
            return r("0", "1", "2", "-1", "7", "pi", "(numbers | length)")
        a, b = self.number(depth - 1), self.number(depth - 1)
        return r(f"({a} + {b})", f"({a} - {b})", f"({a} * {b})", f"({a} // {b})", f"({a} % {b})",
                 f"({self.text(depth - 1)} | length)", f"({self.items(depth - 1)} | length)", f"({a} | abs)",
                 f"({a} | int)", f"-{a}", f"({a} / {b})", f"{self.text(depth - 1)}.find('a')",
                 f"numbers[{self.pick('0', '1', '-1')}]", f"({a} | round({r('', '1', '-1', '0', 'none')}))", f"({a} | round(1, 'floor'))",
                 f"{self.text(depth - 1)}.{r('find', 'rfind', 'count')}({self.text(0)}, {r(self.whole(), 'none')}, {r(self.whole(), 'none')})",
                 f"({self.text(depth - 1)} | int({r('', '3', '0, 16', 'base=0', 'default=1')}))", f"({self.text(0)} | wordcount)",
                 f"({self.items(depth - 1)} | map('int') | sum(start={r('1', '0.5')}))")

    def items(self, depth):
        r = self.pick
        if depth <= 0:
            return r("numbers", "empty", "user.tags", "[1, 'a']", "(1, 2)", "['b', 'a']")
        a = self.items(depth - 1)
        return r(f"{a}[::-1]", f"{a}[1:]", f"({a} | list)", f"({a} | reverse | list)", f"({a} | map('string') | list)",
                 f"[{self.any(depth - 1)}, {self.any(depth - 1)}]", f"({a} | select('string') | list)",
                 f"({a} | unique | list)", f"{self.text(depth - 1)}.split('e')", "(people | map(attribute='name') | list)",
                 f"({a} | reject('number') | list)", "(user.items() | list)", "(user | dictsort)",
                 f"({a} | batch({self.whole()}{r('', ', 0')}) | list)", f"({a} | slice({self.whole()}{r('', ', 0')}) | list)",
                 f"(people | groupby('{r('age', 'name')}') | map(attribute='{r('grouper', 'list', '0')}') | list)",
                 f"(people | sort(attribute='{r('age', 'name', 'age,name', 'name,age')}', reverse={r('true', 'false')}) | map(attribute='name') | list)",
                 f"({a} | map('string') | sort(case_sensitive={r('true', 'false')}) | list)",
                 f"({a} | select('{r('==', '!=', 'in', 'eq')}', {self.any(0)}) | list)",
                 f"{self.text(depth - 1)}.splitlines({r('true', 'false')})")

    def truth(self, depth):
        r = self.pick
        if depth <= 0:
            return r("true", "false", "flag", "missing is defined", "numbers", "empty", "loop is defined")
        return r(f"({self.truth(depth - 1)} and {self.truth(depth - 1)})", f"(not {self.truth(depth - 1)})",
                 f"({self.truth(depth - 1)} or {self.any(0)})", f"({self.number(depth - 1)} < {self.number(0)})",
                 f"({self.text(depth - 1)} in {self.text(0)})", f"({self.any(depth - 1)} == {self.any(0)})",
                 f"({self.any(depth - 1)} is {r('string', 'number', 'mapping', 'iterable', 'none', 'defined', 'true')})",
                 f"{self.text(depth - 1)}.startswith({self.text(0)})",
                 f"{self.text(depth - 1)}.{r('startswith', 'endswith')}({self.text(0)}, {self.whole()}, {self.whole()})",
                 f"{self.text(depth - 1)}.is{r('alnum', 'alpha', 'ascii', 'decimal', 'digit', 'lower', 'numeric', 'printable', 'space', 'title', 'upper')}()",
                 f"({self.number(depth - 1)} is {r('odd', 'even', 'divisibleby 2', 'divisibleby 0.5')})", f"({self.any(0)} in {self.items(depth - 1)})")

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


def content(rand, in_parts):
    if not in_parts:
        return words(rand)
    return [{"type": "text", "text": words(rand)} for _ in range(rand.randint(1, 3))]


def schema(rand, depth=2):
    kinds = ["string", "number", "integer", "boolean", "any"] + ["array", "object", "one of", "several"] * (depth > 0)
    kind = rand.choice(kinds)
    made = {} if kind in ("any", "one of") else {"type": kind}
    if kind == "several":
        made["type"] = rand.sample(["string", "null", "number"], rand.randint(1, 2))
    elif kind == "one of":
        made["oneOf"] = [schema(rand, depth - 1) for _ in range(rand.randint(1, 2))]
    elif kind == "array" and rand.random() < 0.8:
        made["items"] = schema(rand, depth - 1)
    elif kind == "object":
        made["properties"] = {name: schema(rand, depth - 1) for name in "yz"[:rand.randint(0, 2)]}
    elif kind == "string" and rand.random() < 0.4:
        made["enum"] = ["a", "b c", words(rand)]
    if rand.random() < 0.9:
        made["description"] = words(rand)
    if rand.random() < 0.2:
        made["nullable"] = True
    if rand.random() < 0.2:
        made["default"] = "a" if "enum" in made else rand.choice([1, 20.0, 1 << 60, "x", None, False, [2]])
    return made


def tool(rand, name):
    properties = {key: schema(rand) for key in ("x", "city", "ümlaut")[:rand.randint(0, 3)]}
    parameters = {"type": "object", "properties": properties, "required": [key for key in properties if rand.random() < 0.5]}
    if not parameters["required"] and rand.random() < 0.5:
        del parameters["required"]
    made = {"name": name, "description": words(rand), "parameters": parameters}
    if rand.random() < 0.2:
        made["return"] = {"type": "string", "description": words(rand)}
    return {"type": "function", "function": made}


def calls(rand, most):
    made = []
    as_text = rand.random() < 0.3
    for _ in range(rand.randint(1, most)):
        arguments = {"x": rand.choice([1, 2.5, 3.0, -1e30, None, True, [1, "ü"], {"y": "\""}, words(rand)])}
        made.append({"id": "".join(rand.choice("abcdXYZ019") for _ in range(9)), "type": "function",
                     "function": {"name": rand.choice("fg"), "arguments": json.dumps(arguments) if as_text else arguments}})
    return made


def turn(rand, messages, in_parts):
    """A question and its answer, over tools or not."""
    messages.append({"role": "user", "content": content(rand, in_parts)})
    answer = {"role": "assistant", "content": content(rand, in_parts)}
    messages.append(answer)
    if rand.random() < 0.4:
        answer["tool_calls"] = calls(rand, rand.choice([1, 1, 2]))
        if rand.random() < 0.5:
            answer["content"] = rand.choice(["", None])
        for call in answer["tool_calls"]:
            messages.append({"role": "tool", "content": content(rand, in_parts), "tool_call_id": call["id"],
                             "name": call["function"]["name"]})
        if rand.random() < 0.7:
            messages.append({"role": "assistant", "content": content(rand, in_parts)})
    if rand.random() < 0.3:
        answer["reasoning_content"] = words(rand)
    if rand.random() < 0.1:
        answer["thinking"] = words(rand)


def conversation(rand):
    in_parts = rand.random() < 0.25
    messages = []
    if rand.random() < 0.5:
        messages.append({"role": rand.choice(["system"] * 4 + ["developer"]), "content": content(rand, in_parts)})
    for _ in range(rand.randint(0, 3)):
        turn(rand, messages, in_parts)
    if not messages or rand.random() < 0.6:
        messages.append({"role": "user", "content": content(rand, in_parts)})
    variables = {"messages": messages, "add_generation_prompt": rand.random() < 0.5,
                 "bos_token": "<s>", "eos_token": "</s>", "tools": None}
    if rand.random() < 0.55:
        variables["tools"] = [tool(rand, name) for name in "fgh"[:rand.randint(1, 3)]]
    elif rand.random() < 0.2:
        del variables["tools"]
    if rand.random() < 0.1:
        del variables[rand.choice(["bos_token", "eos_token", "add_generation_prompt"])]
    switches = {"enable_thinking": [True, False], "thinking": [True, False], "date_string": ["1 May 2025"],
                "tools_in_user_message": [True, False], "builtin_tools": [["browser"], ["python", "code_interpreter"]],
                "reasoning_effort": ["low", "high"], "model_identity": [words(rand)], "length": ["short"],
                "documents": [[], [{"title": "T", "text": words(rand)}]], "citations": [True],
                "custom_tools": [[tool(rand, "own")]]}
    if rand.random() < 0.8:
        variables |= {"functions": json.dumps([tool(rand, "f")]), "datetime": "today"}
    for name, choices in switches.items():
        if rand.random() < 0.12:
            variables[name] = rand.choice(choices)
    return variables


@functools.cache
def compiled(made, template):
    return made.from_string(template)


def case_of(made, template, variables, **more):
    case = {"template": template, "variables": variables, **more}
    try:
        text = compiled(made, template).render(**variables)
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
            template = file.read() if path.endswith(".jinja") else json.load(file)["chat_template"]
        cases += [case_of(made, template, conversation(rand), name=path)
                  for _ in range(count // 25)]
    json.dump([case for case in cases if case], sys.stdout)


main()
