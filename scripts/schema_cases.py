#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""usage: schema_cases.py schemas SEED COUNT - random schemas, one a line: every keyword that
src/grammar knows, small enough that any walk through one ends.
       schema_cases.py check - reads {"schema": ..., "text": ...} by the line and says which texts
are no JSON or not valid, as python3-jsonschema sees it.
"""
import json
import re
import sys
from random import Random

PATTERNS = ["^[a-c]{1,4}$", "^(ab|cd)*x?$", "^\\d{3}-\\d{2,4}$", "^[^\"\\\\]{2,5}$", "^\\w+@\\w{2}$",
            "^.{0,3}$", "^\\S\\s\\S$", "^[^\\d\\s]{3}$", "^\\W\\D$", "^[\\x00-\\x20]{2}$",
            "^(?:a|b)+c{2}|xyz$", "^\u00e9[\u4e00-\u4e05]?$", "^[\\w.-]{1,6}$",
            "^(?=.*\\d)(?!.*aa).{2,5}$", "^(?!x$)[x-z]{1,3}$", "(^|,)a{2}($|,)", "^a?\\b.{2}\\B.$",
            "(?i)^[a-c]{3}$"]
FORMATS = ["date", "time", "date-time", "uuid", "ipv4", "email", "hostname", "uri",
           "ipv6", "duration", "json-pointer", "uri-reference"]
NAMES = ["a", "ab", "abc", "name", "na", "\u00e4", "q\"t", "b\\s", "with space", "x\ny", "", "n1", "$k"]
VALUES = [0, 1, -7, 1.5, -0.25, 1e-7, 12345678, "", "a", "a\"b\\c", "\u00e4\U0001f600\n", True, False,
          None, [], [1, "x"], {}, {"k": [None, {"l": 2}]}]


def random_string(random):
    schema = {"type": "string"}
    kind = random.randrange(5)
    if kind == 0:
        schema["pattern"] = random.choice(PATTERNS)
        if "*" in schema["pattern"] or "+" in schema["pattern"] or schema["pattern"][0] != "^":
            schema["maxLength"] = random.randrange(9, 14)
    elif kind == 1:
        schema["format"] = random.choice(FORMATS)
        if schema["format"] not in ("date", "uuid", "ipv4", "ipv6"):  # the others may go on for ever
            schema["maxLength"] = random.randrange(25, 60)
    else:
        low = random.randrange(4)
        schema["minLength"] = low
        schema["maxLength"] = low + random.choice([0, 1, 3, 20])
    return schema


def random_number(random):
    kind = random.choice(["integer", "number"])
    low = random.choice([-1000, -12.5, -3, -0.75, 0, 0.001, 1, 7, 99.5, 12345])
    high = low + random.choice([1, 2, 3.5, 10, 1000, 1e6])
    schema = {"type": kind}
    if random.random() < 0.7:
        schema[random.choice(["minimum", "exclusiveMinimum"])] = low
    if random.random() < 0.7:
        schema[random.choice(["maximum", "exclusiveMaximum"])] = high
    return schema


def random_array(random, depth):
    schema = {"type": "array", "items": random_schema(random, depth - 1)}
    least = random.randrange(3)
    schema["minItems"] = least
    schema["maxItems"] = least + random.randrange(3)
    if random.random() < 0.3:
        schema["prefixItems"] = [random_schema(random, depth - 1)
                                 for _ in range(random.randrange(1, 3))]
    return schema


def random_object(random, depth):
    names = random.sample(NAMES, random.randrange(5))
    schema = {"type": "object", "properties": {n: random_schema(random, depth - 1) for n in names}}
    if random.random() < 0.8:
        schema["required"] = [n for n in names if random.random() < 0.6]
    if random.random() < 0.5:
        schema[random.choice(["additionalProperties", "unevaluatedProperties"])] = False
    return schema


def tagged_union(random, depth):
    branches = []
    for tag in random.sample(["cat", "dog", 1, None], random.randrange(2, 4)):
        branch = random_object(random, depth - 1)
        branch["properties"]["tag"] = {"const": tag}
        branch["required"] = branch.get("required", []) + ["tag"]
        branches.append(branch)
    return {"oneOf": branches}


def combined(random, depth):
    kind = random.randrange(5)
    if kind == 0:
        return {"anyOf": [random_schema(random, depth - 1) for _ in range(random.randrange(1, 4))]}
    if kind == 1:
        return tagged_union(random, depth)
    if kind == 2:
        return {"allOf": [{"type": "integer", "minimum": random.randrange(10)},
                          {"maximum": random.randrange(10, 200)}]}
    if kind == 3:
        return {"type": random.sample(["null", "boolean", "integer"], random.randrange(1, 4)),
                "maximum": 1000, "minimum": -50}
    base = random_object(random, depth - 1)
    base.pop("additionalProperties", None)
    if random.random() < 0.5:
        base["unevaluatedProperties"] = False
        if random.random() < 0.5:
            base["allOf"] = [{"properties": {"part": {"type": "null"}}, "required": ["part"]}]
    base["anyOf"] = [{"required": ["extra"], "properties": {"extra": random_schema(random, 0)}},
                     {"properties": {"other": {"const": 5}}, "required": ["other"]}]
    return base


def constrained(random):
    """Constraints that are written as others: each beside what it narrows."""
    names = ["a", "b", "c"]
    base = {"type": "object", "properties": {n: {"type": "integer", "minimum": 0, "maximum": 9} for n in names},
            "additionalProperties": False}
    inner = random_schema(random, 0)
    return random.choice([
        lambda: base | {"minProperties": random.randrange(3), "maxProperties": random.randrange(1, 4)},
        lambda: base | {"dependentRequired": {"a": ["b"], "b": random.sample(names, 2)}},
        lambda: base | {"dependentSchemas": {"a": {"properties": {"c": {"minimum": 4}}}}},
        lambda: base | {"if": {"properties": {"a": {"maximum": 4}}, "required": ["a"]},
                        "then": {"required": ["b"]}, "else": {"properties": {"c": False}}},
        lambda: base | {"not": {"properties": {"a": {"const": 3}}, "required": ["a"]}},
        lambda: base | {"not": {"anyOf": [{"required": ["a", "b"]}, {"required": ["c"]}]}},
        lambda: base | {"patternProperties": {"^[ab]$": {"multipleOf": 3}}},
        lambda: base | {"propertyNames": {"pattern": "^[bc]$"}},
        lambda: {"type": "object", "maxProperties": 3, "minProperties": random.randrange(2),
                 "patternProperties": {"^x[0-9]$": inner, "^.y$": {"type": "null"}}, "additionalProperties": False},
        lambda: {"type": "object", "maxProperties": 2, "propertyNames": {"minLength": 1, "maxLength": 3},
                 "additionalProperties": inner},
        lambda: {"type": "integer", "minimum": -200, "maximum": 200, "multipleOf": random.randrange(1, 30)},
        lambda: {"type": "number", "minimum": -20, "maximum": 20, "multipleOf": random.choice([0.5, 0.25, 1.5, 2])},
        lambda: {"type": "integer", "minimum": 0, "maximum": 20, "not": {"enum": [1, 3, 12]}},
        lambda: {"type": "string", "maxLength": 3, "not": {"enum": ["", "a", "b\""]}},
        lambda: {"type": "string", "maxLength": 4, "not": {"pattern": "^a|[0-9]"}},
        lambda: {"not": {"type": ["object", "array", "string", "number"]}},
        lambda: {"type": "array", "maxItems": 4, "items": {"type": "integer", "minimum": 0, "maximum": 9},
                 "contains": {"minimum": 5}, "minContains": 1, "maxContains": random.randrange(1, 3)},
        lambda: {"type": "array", "maxItems": 3, "items": {"enum": ["x", 2, None, [1]]}, "uniqueItems": True},
        lambda: {"type": "array", "maxItems": 3, "uniqueItems": True, "items": {
            "type": random.sample(["integer", "boolean", "null"], 2), "minimum": -2, "exclusiveMaximum": 3}},
        lambda: {"enum": ["", "ab", "abc", 1, 70, None], "minLength": 3, "maximum": 9},
        lambda: {"type": "string", "maxLength": 6, "allOf": [{"pattern": "^[a-c]"}, {"pattern": "[bc]$"}]},
    ])()


def random_schema(random, depth):
    kinds = [random_string, random_number,
             lambda r: {"enum": r.sample(VALUES, r.randrange(1, 5))},
             lambda r: {"const": r.choice(VALUES)}, lambda r: {"type": r.choice(["boolean", "null"])}]
    if depth > 0:
        kinds += [lambda r: random_array(r, depth), lambda r: random_object(r, depth),
                  lambda r: combined(r, depth), constrained] * 2
    return random.choice(kinds)(random)


def whole_schema(random):
    schema = random_schema(random, 3)
    if random.random() < 0.2:
        leaf = random_schema(random, 1)
        schema = {"type": "object", "required": ["next", "leaf"],
                  "properties": {"leaf": {"$ref": "#/$defs/leaf"},
                                 "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/chain"}]}},
                  "$defs": {"leaf": leaf, "chain": {
                      "type": "object", "additionalProperties": False, "required": ["end"],
                      "properties": {"end": {"$ref": "#/$defs/leaf", "description": "d"},
                                     "more": {"type": "array", "maxItems": 1,
                                              "items": {"$ref": "#/$defs/chain"}}}}}}
    return schema


# RFC 3339: what jsonschema checks these by is in other packages.
DURATION = re.compile(r"P(?=.)((\d+D|\d+M(\d+D)?|\d+Y(\d+M(\d+D)?)?)?(T(?=.)(\d+H(\d+M(SS)?)?|\d+M(SS)?|SS))?|\d+W)".replace("SS", r"\d+(\.\d+)?S"))
TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)")

DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]" + TIME.pattern)
URI = re.compile(r"[A-Za-z][A-Za-z\d+.-]*:(//([^@/?#\[\]]*@)?(\[[^]]+\]|[^/?#:\[\]@]*)(:\d*)?(?=[/?#]|$)|(?!//))"
                 r"([\w.~!$&'()*+,;=:@/-]|%[\dA-Fa-f]{2})*(\?([\w.~!$&'()*+,;=:@/?-]|%[\dA-Fa-f]{2})*)?"
                 r"(#([\w.~!$&'()*+,;=:@/?-]|%[\dA-Fa-f]{2})*)?", re.ASCII)
HOSTNAME = re.compile(r"(?=.{1,253}$)(?!-)[A-Za-z\d-]{1,63}(?<!-)(\.(?!-)[A-Za-z\d-]{1,63}(?<!-))*")


def fault_of(schema, text):
    """What is wrong with a text; None: it is valid JSON of the schema."""
    from jsonschema import Draft202012Validator, FormatChecker
    formats = FormatChecker(("date", "email", "ipv4", "ipv6", "uuid"))
    for name, pattern in (("duration", DURATION), ("time", TIME), ("uri", URI), ("hostname", HOSTNAME),
                          ("date-time", DATE_TIME)):
        formats.checks(name)(lambda value, of=pattern: not isinstance(value, str) or bool(of.fullmatch(value)))
    try:
        value = json.loads(text)
    except ValueError as error:
        return f"no JSON: {error}"
    Draft202012Validator.check_schema(schema)
    return next((error.message for error in Draft202012Validator(schema, format_checker=formats).iter_errors(value)), None)


def check():
    sys.set_int_max_str_digits(0)  # JSON's integers have no longest
    count = faults = 0
    for line in sys.stdin:
        case = json.loads(line)
        fault = fault_of(case["schema"], case["text"])
        count += 1
        if fault:
            faults += 1
            print(f"{json.dumps(case['schema'])}\n  {case['text']!r}\n  {fault}")
    print(f"{count} texts, {faults} faults")
    return 1 if faults or not count else 0


if __name__ == "__main__":
    if sys.argv[1] == "check":
        sys.exit(check())
    chance = Random(int(sys.argv[2]))
    for _ in range(int(sys.argv[3])):
        print(json.dumps(whole_schema(chance)))
