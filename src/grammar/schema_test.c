/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "grammar_cases.h"

/* JSON Schema core 6.5. */
static void annotations_say_nothing(void **state) {
    (void)state;
    const char *annotated =
        "{\"type\":\"object\",\"id\":\"x\",\"$anchor\":\"a\",\"$vocabulary\":{},"
        "\"xml\":{},\"externalDocs\":1,\"propertyOrdering\":[\"a\"],\"x-a\":1,"
        "\"cache_control\":{\"type\":\"ephemeral\"},\"mein "
        "Wort\":[],\"properties\":{\"a\":"
        "{\"type\":\"string\",\"contentEncoding\":\"base64\",\"contentMediaType\":"
        "\"image/png\",\"format\":\"byte\",\"ui:widget\":\"x\",\"enumNames\":[\"b\"],"
        "\"errorMessage\":\"c\",\"label\":\"d\",\"optional\":true,\"maxLength\":2}}}";
    const struct expectation all[] = {
        {SCHEMA,
         annotated,
         {"{\"a\":\"x\"}", "{}"},
         {"{\"a\":1}", "{\"a\":\"xyz\"}", "{\"b\":1}"}},
        {SCHEMA, "{\"nonsense\":1}", {"1", "\"a\"", "{}"}, {""}},
        {SCHEMA,
         "{\"type\":\"string\",\"format\":\"color\",\"pattern\":\"^#\"}",
         {"\"#12\""},
         {"\"12\""}},
        {SCHEMA, "{\"enum\":[\"a\"],\"format\":\"color\"}", {"\"a\""}, {"1"}},
        {SCHEMA, "{\"type\":\"string\",\"format\":null}", {"\"a\""}, {"1"}},
        {SCHEMA, "{\"type\":\"integer\",\"format\":\"int64\"}", {"1"}, {"\"1\""}},
    };
    check(all, sizeof all / sizeof *all);
}

/* As in Python's json, which vLLM reads them with. */
static void the_last_of_members_with_one_name_counts(void **state) {
    (void)state;
    const struct expectation all[] = {
        {SCHEMA, "{\"type\":\"string\",\"type\":\"integer\"}", {"1"}, {"\"a\""}},
        {SCHEMA,
         "{\"properties\":{\"a\":{\"const\":1},\"b\":{\"const\":2},\"a\":{\"const\":3},"
         "\"a\":{\"const\":4}},\"required\":[\"a\",\"b\"]}",
         {"{\"a\":4,\"b\":2}"},
         {"{\"a\":1,\"b\":2}", "{\"a\":3,\"b\":2}", "{\"b\":2,\"a\":4}"}},
        {SCHEMA, "{\"const\":[{\"a\":1,\"a\":2}]}", {"[{\"a\": 2}]"}, {"[{\"a\": 1}]"}},
    };
    check(all, sizeof all / sizeof *all);
}

static const struct expectation schemas_of_plain_values_cases[] = {
    {SCHEMA, "{\"type\":\"boolean\"}", {"true", "false"}, {"null", "tru", "1"}},
    {SCHEMA, "{\"type\":[\"null\",\"integer\"]}", {"null", "-12", "0"}, {"1.5", "-", ""}},
    /* OpenAPI's word: to a validator of JSON Schema a null is none of these. */
    {SCHEMA, "{\"type\":\"string\",\"nullable\":true}", {"\"\""}, {"null", "1"}},
    {SCHEMA,
     "{\"type\":[\"string\",\"null\"],\"nullable\":false}",
     {"null", "\"\""},
     {"1"}},
    {SCHEMA, "{\"type\":\"number\"}", {"1", "-2.50", "1e9"}, {"\"1\"", "+1", "1e"}},
    {SCHEMA,
     "{\"enum\":[1, \"a\\\"b\", null, [1, {\"k\": 2.5}]]}",
     {"1", "\"a\\\"b\"", "null", "[1, {\"k\": 2.5}]"},
     {"2", "[1]"}},
    {SCHEMA, "{\"type\":\"string\",\"enum\":[1, \"a\"]}", {"\"a\""}, {"1"}},
    {SCHEMA, "{\"const\":{\"a\":\"b\"}}", {"{\"a\": \"b\"}"}, {"{}"}},
    {SCHEMA,
     "{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}",
     {"\"ab\"", "\"\xc3\xa4\\n\"", "\"abc\"", "\"\\ud83d\\ude00x\""},
     {"\"a\"", "\"abcd\"", "\"\"", "\"\\ud83d\\ude00\""}},
    {SCHEMA, "{\"type\":\"string\",\"maxLength\":0}", {"\"\""}, {"\"a\""}},
    {SCHEMA,
     "{\"type\":\"string\",\"pattern\":\"^a.c$\"}",
     {"\"abc\"", "\"a\\\"c\"", "\"a\\\\c\""},
     {"\"ac\"", "\"a\"c\"", "\"a\\nc\""}},
    {SCHEMA,
     "{\"type\":\"string\",\"pattern\":\"b\",\"maxLength\":2}",
     {"\"b\"", "\"ab\"", "\"b\\n\""},
     {"\"a\"", "\"aab\""}},
    {SCHEMA,
     "{\"type\":\"string\",\"format\":\"date\"}",
     {"\"2024-02-28\""},
     {"\"2024-02-30\"", "\"24-02-28\""}},
    {SCHEMA,
     "{\"type\":\"string\",\"format\":\"uuid\"}",
     {"\"123e4567-e89b-12d3-a456-426614174000\""},
     {"\"123\""}},
    {SCHEMA,
     "{\"type\":\"string\",\"format\":\"duration\"}",
     {"\"P1Y2M3DT4H5M6S\"", "\"PT1M\"", "\"P2W\"", "\"P1D\"", "\"P1MT2H\""},
     {"\"P\"", "\"PT\"", "\"P1DT\"", "\"P1H\"", "\"P1Y2D\"", "\"PT1H2S\""}},
    {SCHEMA,
     "{\"type\":\"string\",\"format\":\"ipv6\"}",
     {"\"1:22:333:4444:a:b:c:d\""},
     {"\"1:2\"", "\"12345:2:3:4:5:6:7:8\""}},
    {SCHEMA,
     "{\"type\":\"string\",\"format\":\"json-pointer\"}",
     {"\"\"", "\"/a/0\""},
     {"\"a\""}},
    {SCHEMA, /* pydantic's HttpUrl */
     "{\"type\":\"string\",\"format\":\"uri\",\"minLength\":1,\"maxLength\":2083}",
     {"\"http://a.b/c\""},
     {"\"\"", "\"a\""}},
    {SCHEMA,
     "{\"type\":\"string\",\"pattern\":\"^(a|\\\"b){0,3}$\",\"minLength\":1,"
     "\"maxLength\":4}",
     {"\"a\"", "\"\\\"ba\"", "\"\\\"b\\\"b\"", "\"aaa\""},
     {"\"\"", "\"\\\"b\\\"ba\""}},
    {SCHEMA,
     "{\"type\":\"string\",\"pattern\":\"^a*$\",\"minLength\":1}",
     {"\"a\"", "\"aa\""},
     {"\"\""}},
    {SCHEMA, /* two of one value */
     "{\"allOf\":[{\"format\":\"ipv4\"},{\"format\":\"x\"},{\"format\":\"hostname\"},{"
     "\"format\":\"ipv4\",\"maxLength\":9}]}",
     {"\"10.0.0.1\"", "\"1.22.33.4\""},
     {"\"a.b\"", "\"1.2.3\"", "\"255.255.255.255\""}},
    {SCHEMA,
     "{\"type\":\"string\",\"format\":\"uri-reference\",\"allOf\":[{\"format\":\"uri\"}]"
     "}",
     {"\"http://a/b?c\"", "\"a:b\""},
     {"\"/b\"", "\"\""}},
    {SCHEMA,
     "{\"type\":\"string\",\"format\":\"password\",\"maxLength\":3}",
     {"\"\"", "\"a\\\"b\""},
     {"\"abcd\"", "1"}},
};

static void schemas_of_plain_values(void **state) {
    (void)state;
    check(schemas_of_plain_values_cases,
          sizeof schemas_of_plain_values_cases / sizeof *schemas_of_plain_values_cases);
}

static const struct expectation formats_are_as_their_standards_cases[] = {
    {SCHEMA,
     "{\"type\":\"string\",\"format\":\"uri\"}",
     {"\"https://example.com/path?q=1#f\"", "\"http://user:pw@h:80/\"",
      "\"mailto:a@b.c\"", "\"ftp://f/x;type=a\"", "\"urn:isbn:0451450523\"",
      "\"http://[2001:db8::1]:80/a\"", "\"http://[::ffff:1.2.3.4]\"", "\"a:/b//c\"",
      "\"https://x/%7Ea?b=%20&c\"", "\"file:///etc/x\"", "\"tel:+1-816\""},
     {"\"a\"", "\"//x/y\"", "\"/a\"", "\"http://a b\"", "\"http://a:b:c/\"",
      "\"http://[::1\"", "\"1a:b\"", "\"http://a/%zz\"", "\"http://a/#b#c\"",
      "\"http://a/[\"", "\"http://é/\""}},
    {SCHEMA,
     "{\"type\":\"string\",\"format\":\"uri\"}",
     {"\"http://[v1.a:b]\""},
     {"\"\""}},
    {SCHEMA,
     "{\"type\":\"string\",\"format\":\"uri\",\"minLength\":1,\"maxLength\":2083}",
     {"\"http://user:pw@h:80/a?b#c\"", "\"https://example.com/watch?v=abc123\""},
     {"\"\"", "\"a\"", "\"http://a:b:c/\""}},
    {SCHEMA,
     "{\"type\":\"string\",\"format\":\"uri\",\"maxLength\":12}",
     {"\"http://abc/d\""},
     {"\"http://abc/de\""}},
    {SCHEMA,
     "{\"type\":\"string\",\"format\":\"uri-reference\"}",
     {"\"\"", "\"/a/b?c#d\"", "\"../x\"", "\"//h/y\"", "\"http://a/b\"", "\"#f\"",
      "\"?q\"", "\"a/b:c\""},
     {"\"%\"", "\"a b\"", "\"\\\\x\"", "\"a#b#c\"", "\"1:b\""}},
    {SCHEMA,
     "{\"type\":\"string\",\"format\":\"iri\"}",
     {"\"http://ƒøø.ßår/?∂=πœ#ƒ\"", "\"http://a/b\"", "\"urn:é\""},
     {"\"é\"", "\"http://a/<\""}},
    {SCHEMA,
     "{\"type\":\"string\",\"format\":\"ipv6\"}",
     {"\"::\"", "\"::1\"", "\"2001:db8::1\"", "\"fe80::\"", "\"1:22:333:4444:a:B:c:d\"",
      "\"::ffff:192.0.2.1\"", "\"1::3:4:5:6:7:8\"", "\"1:2:3:4:5:6:1.2.3.4\"",
      "\"1:2:3:4:5:6:7::\""},
     {"\"1:2\"", "\"12345:2:3:4:5:6:7:8\"", "\"1::2::3\"", "\":1\"", "\"1:\"", "\":::\"",
      "\"1:2:3:4:5:6:7:8::\"", "\"::1.2.3.400\"", "\"1:2:3:4:5:6:7:1.2.3.4\"",
      "\"fe80::1%eth0\"", "\"::g\""}},
    {SCHEMA,
     "{\"type\":\"string\",\"format\":\"uuid\"}",
     {"\"123E4567-E89B-12d3-a456-426614174000\"",
      "\"3F2504E0-4F89-11D3-9A0C-0305E82C3301\""},
     {"\"123e4567e89b12d3a456426614174000\"",
      "\"123e4567-e89b-12d3-a456-42661417400g\""}},
    {SCHEMA,
     "{\"type\":\"string\",\"format\":\"date\"}",
     {"\"2024-02-29\"", "\"2000-02-29\"", "\"0001-01-01\"", "\"9999-12-31\"",
      "\"2023-02-28\"", "\"0004-02-29\"", "\"2400-02-29\""},
     {"\"2023-02-29\"", "\"1900-02-29\"", "\"2100-02-29\"", "\"2024-02-30\"",
      "\"2024-04-31\"", "\"0000-01-01\"", "\"0000-02-29\"", "\"2024-2-1\"",
      "\"24-02-28\""}},
    {SCHEMA,
     "{\"type\":\"string\",\"format\":\"date-time\"}",
     {"\"2024-02-29T00:00:00.123456789Z\"", "\"1998-12-31t23:59:60z\"",
      "\"1990-12-31T15:59:60-08:00\"", "\"1990-12-31T01:29:60.5+01:30\"",
      "\"2024-01-01T23:00:00Z\"", "\"2024-01-01T00:00:00+23:59\""},
     {"\"2024-01-01T24:00:00Z\"", "\"2024-01-01T22:59:60Z\"", "\"2024-01-01T23:58:60Z\"",
      "\"2024-01-01 00:00:00Z\"", "\"2024-01-01T00:00:00\"", "\"2023-02-29T00:00:00Z\"",
      "\"2024-01-01T00:00:61Z\"", "\"2024-01-01T00:00:00.Z\"",
      "\"2024-01-01T23:59:60-08:00\""}},
    {SCHEMA,
     "{\"type\":\"string\",\"format\":\"time\"}",
     {"\"12:34:56Z\"", "\"23:59:60.25z\"", "\"00:29:60-23:30\"",
      "\"12:00:00.1234567890123+05:45\""},
     {"\"12:34Z\"", "\"12:34:60Z\"", "\"25:00:00Z\"", "\"12:34:56\""}},
    {SCHEMA,
     "{\"type\":\"string\",\"format\":\"duration\"}",
     {"\"PT0.5S\"", "\"P1Y2M3DT4H5M6.75S\"", "\"P100000D\"", "\"P3W\"", "\"PT36H\""},
     {"\"P\"", "\"PT\"", "\"P1DT\"", "\"P1H\"", "\"P1Y2D\"", "\"PT1H2S\"", "\"P1W2D\"",
      "\"PT.5S\"", "\"P0.5Y\""}},
    {SCHEMA,
     "{\"type\":\"string\",\"format\":\"email\"}",
     {"\"a.b+c@example.com\"", "\"o'neil@x.museum\"", "\"me@localhost\"",
      "\"\\\"joe bloggs\\\"@example.com\"", "\"x@[127.0.0.1]\"", "\"x@[IPv6:::1]\"",
      "\"a@1.2.io\""},
     {"\"a\"", "\"a@\"", "\".a@b.c\"", "\"a..b@c.d\"", "\"a.@b.c\"", "\"a@-b.c\"",
      "\"a b@c.d\"", "\"a@b..c\"", "\"@b.c\""}},
    {SCHEMA,
     "{\"type\":\"string\",\"format\":\"email\",\"maxLength\":254}",
     {"\"a.b+c@example.com\""},
     {"\"a@\"", "\"a@b@c\""}},
    {SCHEMA,
     "{\"type\":\"string\",\"format\":\"hostname\"}",
     {"\"a\"", "\"a.b.c.d.e.f.example.com\"", "\"xn--bcher-kva.example\"", "\"1.a\""},
     {"\"-a\"", "\"a-\"", "\"a..b\"", "\"\"", "\".a\"", "\"a_b\""}},
    {SCHEMA,
     "{\"type\":\"string\",\"format\":\"json-pointer\"}",
     {"\"\"", "\"/a~0b/~1/é/x y\""},
     {"\"a\"", "\"/~2\"", "\"/~\""}},
    {SCHEMA,
     "{\"type\":\"string\",\"format\":\"uri-template\"}",
     {"\"\"", "\"http://a.b/{c}/{+d,e*}{?f:20,g.h}#x%20y\"", "\"it's/é\""},
     {"\"/{\"", "\"}\"", "\"{}\"", "\"{a b}\"", "\"a b\"", "\"{a:0}\"", "\"{.}\"",
      "\"%2\""}},
    {SCHEMA,
     "{\"type\":\"string\",\"format\":\"relative-json-pointer\"}",
     {"\"0#\"", "\"1/a\""},
     {"\"/a\"", "\"01\"", "\"-1/a\""}},
};

/* All that the formats' standards have, and nothing else. */
static void formats_are_as_their_standards(void **state) {
    (void)state;
    check(formats_are_as_their_standards_cases,
          sizeof formats_are_as_their_standards_cases /
              sizeof *formats_are_as_their_standards_cases);
}

static const struct expectation numbers_keep_their_bounds_cases[] = {
    {SCHEMA,
     "{\"type\":\"integer\",\"minimum\":7,\"maximum\":123}",
     {"7", "9", "10", "99", "100", "123"},
     {"6", "0", "124", "200", "-7", "07", "1000"}},
    {SCHEMA,
     "{\"type\":\"integer\",\"minimum\":-5,\"maximum\":5}",
     {"-5", "-1", "0", "5"},
     {"-6", "6", "-10", "10"}},
    {SCHEMA,
     "{\"type\":\"integer\",\"exclusiveMinimum\":-5,\"exclusiveMaximum\":-2.5}",
     {"-4", "-3"},
     {"-5", "-2", "-1", "3"}},
    {SCHEMA,
     "{\"type\":\"integer\",\"minimum\":0.5}",
     {"1", "123456789012345"},
     {"0", "-1"}},
    {SCHEMA,
     "{\"type\":\"number\",\"minimum\":0.25,\"maximum\":12.5}",
     {"0.25", "0.3", "1", "9.999", "12", "12.5", "12.500", "12.49", "10.0"},
     {"0", "0.2", "0.249", "12.51", "13", "100", "-1"}},
    {SCHEMA,
     "{\"type\":\"number\",\"exclusiveMinimum\":0,\"exclusiveMaximum\":1}",
     {"0.1", "0.001", "0.999"},
     {"0", "0.0", "1", "1.0", "-0.5"}},
    {SCHEMA,
     "{\"type\":\"number\",\"minimum\":-1.5,\"exclusiveMaximum\":-0.5}",
     {"-1.5", "-1", "-0.51", "-0.6"},
     {"-1.51", "-0.5", "-0.4", "0", "-2"}},
    {SCHEMA,
     "{\"type\":\"number\",\"maximum\":-1e3}",
     {"-1000", "-1000.5"},
     {"-999", "0", "1000"}},
    {SCHEMA,
     "{\"type\":\"number\",\"minimum\":1,\"exclusiveMinimum\":true}",
     {"1.5", "2"},
     {"1", "1.0"}},
    {SCHEMA,
     "{\"type\":\"integer\"}",
     {"0", "-7", "12345678901234567890", "-123456789012345678901234567890"},
     {"01", "1.0", "-0", "", "-"}},
    {SCHEMA,
     "{\"type\":\"number\"}",
     {"12345678901234567890", "1e+308", "1e-320", "-1.5E10", "0.1234567890123456789"},
     {".5", "1.", "1e", "01"}},
    {SCHEMA,
     "{\"type\":\"integer\",\"minimum\":0,\"maximum\":9223372036854775807}",
     {"9223372036854775807", "1234567890123456789", "0"},
     {"9223372036854775808", "10000000000000000000", "-1"}},
    {SCHEMA,
     "{\"type\":\"integer\",\"minimum\":-9223372036854775808,\"exclusiveMaximum\":"
     "1000000000000000000000}",
     {"-9223372036854775808", "999999999999999000000", "5"},
     {"-9223372036854775809", "1000000000000000000000"}},
    {SCHEMA,
     "{\"enum\":[9007199254740993,-123456789012345678901]}",
     {"9007199254740993", "-123456789012345678901"},
     {"9007199254740992", "-123456789012345680000"}},
    {SCHEMA, /* as they are written, not as doubles have them */
     "{\"type\":\"integer\",\"minimum\":-10000000000000001,\"maximum\":9007199254740993}",
     {"-10000000000000001", "9007199254740993", "9007199254740992", "7"},
     {"-10000000000000002", "9007199254740994", "10000000000000000"}},
    {SCHEMA,
     "{\"type\":\"number\",\"exclusiveMinimum\":9007199254740993,\"allOf\":[{\"maximum\":"
     "9007199254740996},{\"maximum\":9007199254740995}]}",
     {"9007199254740994", "9007199254740995", "9007199254740993.5",
      "9.007199254740994e15"},
     {"9007199254740993", "9007199254740993.0", "9007199254740996", "9007199254740992",
      "9.007199254740992e15", "9.007199254740996e15"}},
    {SCHEMA, /* digits of a double are bounds of scientific form, too */
     "{\"type\":\"number\",\"minimum\":-10000000000000000,\"exclusiveMaximum\":"
     "20000000000000000}",
     {"-1e16", "1.9e16", "19999999999999999"},
     {"2e16", "-1.1e16"}},
    {SCHEMA, /* cJSON takes such zeros */
     "{\"type\":\"integer\",\"minimum\":0009007199254740996}",
     {"9007199254740998", "10000000000000000"},
     {"9007199254740991", "99", "1"}},
    {SCHEMA,
     "{\"not\":{\"maximum\":10000000000000001},\"type\":\"integer\",\"title\":\"\\\"1 "
     "\",\"maximum\":"
     "10000000000000003}",
     {"10000000000000002", "10000000000000003"},
     {"10000000000000001", "10000000000000004", "1"}},
    {SCHEMA,
     "{\"type\":\"integer\",\"minimum\":100000000000000000}",
     {"100000000000000100", "1000000000000000000000000"},
     {"99999999999999999", "-100000000000000100"}},
    {SCHEMA,
     "{\"type\":\"number\",\"minimum\":0}",
     {"0", "1e-7", "1.5e-07", "2E+300", "12345678901234567890.123456789012345678"},
     {"-1", "-1e-7", "10e5", "0.5e1"}},
    {SCHEMA,
     "{\"type\":\"number\",\"minimum\":-2.5,\"exclusiveMaximum\":1.25e2}",
     {"1.24e2", "1.2499e02", "9e1", "1e-300", "-2.5e0", "-2.5e-1", "-1e0", "9.99e+1"},
     {"1.25e2", "1.2500e2", "1.26e2", "2e2", "1e3", "-2.6e0", "-2.51e0", "-1e1"}},
    {SCHEMA,
     "{\"type\":\"number\",\"minimum\":12345,\"maximum\":12346}",
     {"1.2345e4", "1.23455e4", "1.2346e4"},
     {"1e4", "1.2e4", "1.234e4", "1.23461e4", "2e4", "1.3e3"}},
    {SCHEMA,
     "{\"type\":\"number\",\"minimum\":3e-5,\"maximum\":3e-5}",
     {"0.00003", "3e-5", "3.0e-05", "0.000030"},
     {"0.00002", "3e-4", "3.1e-5", "0"}},
    {SCHEMA,
     "{\"type\":\"number\",\"exclusiveMinimum\":1e300,\"maximum\":1."
     "7976931348623157e308}",
     {"1.1e300", "1.7976931348623157e308", "1e308"},
     {"1e300", "1.8e308", "1e309", "1"}},
};

static void numbers_keep_their_bounds(void **state) {
    (void)state;
    check(numbers_keep_their_bounds_cases, sizeof numbers_keep_their_bounds_cases /
                                               sizeof *numbers_keep_their_bounds_cases);
}

static void schemas_of_arrays(void **state) {
    (void)state;
    const struct expectation all[] = {
        {SCHEMA,
         "{\"type\":\"array\",\"items\":{\"type\":\"integer\"}}",
         {"[]", "[1]", "[1, 2,3]", "[\n  1\n]"},
         {"[\"a\"]", "[1,]", "[,1]", "[1 2]"}},
        {SCHEMA,
         "{\"items\":{\"type\":\"null\"},\"minItems\":1,\"maxItems\":2}",
         {"[null]", "[null,null]"},
         {"[]", "[null,null,null]"}},
        {SCHEMA,
         "{\"type\":\"array\",\"minItems\":2,\"items\":{\"const\":1}}",
         {"[1,1]", "[1,1,1,1]"},
         {"[1]"}},
        {SCHEMA,
         "{\"prefixItems\":[{\"const\":1},{\"const\":2}],\"items\":false}",
         {"[]", "[1]", "[1, 2]"},
         {"[2]", "[1,2,3]"}},
        {SCHEMA,
         "{\"type\":\"array\",\"prefixItems\":[{\"const\":1}],\"items\":{\"const\":2}}",
         {"[]", "[1]", "[1,2,2,2]"},
         {"[1,1]", "[2]"}},
        {SCHEMA, "{\"type\":\"array\",\"maxItems\":0}", {"[]", "[ ]"}, {"[1]"}},
        {SCHEMA, "{\"type\":\"array\"}", {"[]", "[1,\"a\",{},[[]]]"}, {"{}"}},
    };
    check(all, sizeof all / sizeof *all);
}

static void schemas_of_objects(void **state) {
    (void)state;
    const char *three =
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},"
        "\"b\":{\"type\":\"boolean\"},\"c\":{\"type\":\"null\"}},"
        "\"required\":[\"b\"],\"additionalProperties\":false}";
    const struct expectation all[] = {
        {SCHEMA,
         three,
         {"{\"a\": 1, \"b\": true, \"c\": null}", "{\"b\":false}", "{\"a\":1,\"b\":true}",
          "{\"b\":true,\"c\":null}", "{\n  \"b\": true\n}"},
         {"{}", "{\"a\":1}", "{\"b\":true,\"a\":1}", "{\"b\":true,}", "{,\"b\":true}",
          "{\"b\":true,\"d\":1}", "{\"b\":true \"c\":null}"}},
        {SCHEMA,
         "{\"properties\":{\"ab\":{\"const\":1}},\"additionalProperties\":"
         "{\"type\":\"string\"}}",
         {"{}", "{\"ab\":1}", "{\"ab\":1,\"x\":\"y\"}", "{\"a\":\"\",\"abc\":\"\"}",
          "{\"\xc3\xa4\":\"\"}"},
         {"{\"ab\":\"x\"}", "{\"x\":\"\",\"ab\":\"\"}", "{\"x\":1}",
          "{\"\\u0061b\":\"\"}"}},
        {SCHEMA,
         "{\"type\":\"object\",\"additionalProperties\":{\"const\":1}}",
         {"{}", "{\"x\":1,\"y\": 1}"},
         {"{\"x\":2}"}},
        {SCHEMA,
         "{\"type\":\"object\",\"required\":[\"k\"]}",
         {"{\"k\":[1]}", "{\"k\":1,\"l\":2}"},
         {"{}", "{\"l\":2}"}},
        {SCHEMA,
         "{\"type\":\"object\",\"properties\":{\"a\":false,\"b\":true}}",
         {"{}", "{\"b\":{\"x\":1}}"},
         {"{\"a\":1}"}},
        {SCHEMA,
         "{\"type\":\"object\",\"properties\":{},\"additionalProperties\":false}",
         {"{}"},
         {"{\"a\":1}"}},
        {SCHEMA,
         "{\"type\":\"object\",\"unevaluatedProperties\":false}",
         {"{}"},
         {"{\"a\":1}"}},
        {SCHEMA,
         "{\"type\":\"object\",\"unevaluatedProperties\":false,"
         "\"additionalProperties\":{\"const\":1}}",
         {"{}", "{\"a\":1}"},
         {"{\"a\":2}"}},
        {SCHEMA, "true", {"{}", "1", "[\"x\"]", "null"}, {""}},
    };
    check(all, sizeof all / sizeof *all);
}

static void schemas_that_combine(void **state) {
    (void)state;
    const struct expectation all[] = {
        {SCHEMA,
         "{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"integer\"},{\"const\":1.5}]}",
         {"\"a\"", "12", "1.5"},
         {"2.5", "null"}},
        {SCHEMA,
         "{\"anyOf\":[{\"properties\":{\"kind\":{\"const\":\"a\"},\"x\":{\"type\":"
         "\"integer\"}},\"required\":[\"kind\",\"x\"]},{\"properties\":{\"kind\":"
         "{\"const\":\"ab\"}},\"required\":[\"kind\"]}]}",
         {"{\"kind\":\"a\",\"x\":1}", "{\"kind\":\"ab\"}"},
         {"{\"kind\":\"a\"}", "{\"kind\":\"ab\",\"x\":1}"}},
        {SCHEMA,
         "{\"oneOf\":[{\"properties\":{\"t\":{\"const\":1}},\"required\":[\"t\"],"
         "\"type\":\"object\"},{\"type\":\"object\",\"properties\":{\"t\":{\"enum\":"
         "[2,3]}},\"required\":[\"t\"]}]}",
         {"{\"t\":1}", "{\"t\":3}"},
         {"{\"t\":4}", "{}"}},
        {SCHEMA,
         "{\"type\":\"object\",\"properties\":{\"a\":{\"const\":1}},\"required\":[\"a\"],"
         "\"anyOf\":[{\"properties\":{\"b\":{\"const\":2}},\"required\":[\"b\"]},"
         "{\"properties\":{\"c\":{\"const\":3}},\"required\":[\"c\"]}]}",
         {"{\"a\":1,\"b\":2}", "{\"a\":1,\"c\":3}"},
         {"{\"a\":1}", "{\"b\":2}"}},
        {SCHEMA,
         "{\"allOf\":[{\"type\":\"integer\",\"minimum\":3},{\"maximum\":5,\"minimum\":4}]"
         "}",
         {"4", "5"},
         {"3", "6"}},
        {SCHEMA,
         "{\"allOf\":[{\"$ref\":\"#/$defs/a\"}],\"description\":\"d\",\"$defs\":{\"a\":"
         "{\"type\":[\"integer\",\"null\"]}}}",
         {"1", "null"},
         {"\"\""}},
        {SCHEMA,
         "{\"$ref\":\"#/$defs/node\",\"$defs\":{\"node\":{\"type\":\"object\","
         "\"properties\":{\"v\":{\"type\":\"integer\"},\"next\":{\"anyOf\":[{\"$ref\":"
         "\"#/$defs/node\"},{\"type\":\"null\"}]}},\"required\":[\"v\",\"next\"]}}}",
         {"{\"v\":1,\"next\":null}", "{\"v\":1,\"next\":{\"v\":2,\"next\":null}}"},
         {"{\"v\":1}", "{\"v\":1,\"next\":{}}"}},
        /* From outside, what parts and branches name is evaluated. */
        {SCHEMA,
         "{\"unevaluatedProperties\":false,\"$ref\":\"#/$defs/p\",\"properties\":{\"a\":"
         "{\"const\":1}},\"$defs\":{\"p\":{\"properties\":{\"b\":{\"const\":2}}}}}",
         {"{\"a\":1,\"b\":2}", "{}"},
         {"{\"c\":1}", "{\"a\":1,\"c\":1}"}},
        {SCHEMA,
         "{\"type\":\"object\",\"unevaluatedProperties\":false,\"anyOf\":[{"
         "\"properties\":{"
         "\"b\":{\"const\":2}},\"required\":[\"b\"]},{\"minProperties\":0}]}",
         {"{\"b\":2}", "{}"},
         {"{\"c\":3}", "{\"b\":2,\"c\":3}"}},
        {SCHEMA,
         "{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}}",
         {"[]", "[[],[[]]]"},
         {"[1]"}},
        {SCHEMA,
         "{\"properties\":{\"a~/b\":{\"const\":1},\"c\":{\"$ref\":"
         "\"#/properties/a~0~1b\"}}}",
         {"{\"c\":1}"},
         {"{\"c\":2}"}},
    };
    check(all, sizeof all / sizeof *all);
}

static void no_branch_of_many_is_lost(void **state) {
    (void)state;
    enum { MANY = 250 };
    char *schema = wide_schema(MANY);
    cohort_grammar *grammar = compile(SCHEMA, schema);
    for (int i = 0; i < MANY; i++) {
        char text[32];
        int size = snprintf(text, sizeof text, "{ \"n%d\": 1}", i);
        cohort_matcher *matcher = match(grammar);
        if (!cohort_matcher_accept_bytes(matcher, text, (size_t)size) ||
            !cohort_matcher_is_finished(matcher))
            fail_msg("%s is refused", text);
        cohort_matcher_destroy(matcher);
    }
    cohort_grammar_release(grammar);
    free(schema);
}

/* MANY objects whose one property is each time one of MANY others: together they are more
 * readings than a matcher holds, behind the second brace. */
static void what_fits_one_of_too_many_readings_is_taken(void **state) {
    (void)state;
    enum { MANY = 40 };
    char *schema;
    size_t size;
    FILE *out = open_memstream(&schema, &size);
    assert_non_null(out);
    for (int i = 0; i < MANY; i++) {
        fputs(i ? "," : "{\"anyOf\":[", out);
        fputs("{\"properties\":{\"a\":{\"anyOf\":[", out);
        for (int j = 0; j < MANY; j++)
            fprintf(out, "%s{\"properties\":{\"k%d_%d\":{}}}", j ? "," : "", i, j);
        fputs("]}}}", out);
    }
    fputs("]}", out);
    fclose(out);
    cohort_grammar *grammar = compile(SCHEMA, schema);
    for (int i = 0; i < MANY; i++) {
        char text[64];
        int length =
            snprintf(text, sizeof text, "{\"a\":{\"k%d_%d\":1}}", i, MANY - 1 - i);
        cohort_matcher *matcher = match(grammar);
        if (!cohort_matcher_accept_bytes(matcher, text, (size_t)length) ||
            !cohort_matcher_is_finished(matcher))
            fail_msg("%s is refused", text);
        cohort_matcher_destroy(matcher);
    }
    cohort_grammar_release(grammar);
    free(schema);
}

static const struct expectation constraints_hold_cases[] = {
    {SCHEMA,
     "{\"type\":\"object\",\"properties\":{\"a\":{}},\"patternProperties\":{"
     "\"^x\":{\"type\":\"integer\"},\"^a\":{\"type\":\"null\"}},"
     "\"additionalProperties\":false}",
     {"{}", "{\"x1\": 2}", "{\"a\": null,\"x\": 1}", NULL},
     {"{\"a\": 1}", "{\"x\": \"y\"}", "{\"b\": 1}", NULL}},
    {SCHEMA,
     "{\"type\":\"object\",\"propertyNames\":{\"pattern\":\"^[a-c]+$\"},"
     "\"additionalProperties\":{\"type\":\"null\"}}",
     {"{}", "{\"ab\": null}", NULL},
     {"{\"d\": null}", NULL}},
    {SCHEMA,
     "{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{},\"c\":{}},"
     "\"minProperties\":1,\"maxProperties\":2}",
     {"{\"a\": 1}", "{\"b\": 1,\"c\": 1}", NULL},
     {"{}", "{\"a\": 1,\"b\": 1,\"c\": 1}", NULL}},
    {SCHEMA,
     "{\"type\":\"object\",\"minProperties\":1}",
     {"{\"a\": 1}", "{\"b\": 1,\"c\": 1}", NULL},
     {"{}", NULL}},
    {SCHEMA,
     "{\"type\":\"integer\",\"multipleOf\":7,\"minimum\":-20}",
     {"0", "7", "-14", "700", NULL},
     {"1", "-21", "71", NULL}},
    {SCHEMA,
     "{\"type\":\"number\",\"multipleOf\":0.01,\"minimum\":0,\"maximum\":10}",
     {"0", "1.5", "9.99", "3", "0.25", NULL},
     {"0.001", "9.995", "11", NULL}},
    {SCHEMA,
     "{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"contains\":{"
     "\"minimum\":5},\"minContains\":1,\"maxContains\":2}",
     {"[5]", "[1, 6, 2]", "[7, 8]", NULL},
     {"[]", "[1]", "[5, 6, 7]", NULL}},
    {SCHEMA,
     "{\"type\":\"array\",\"uniqueItems\":true,\"items\":{\"enum\":[1,2,3]}}",
     {"[]", "[2, 1]", "[1, 2, 3]", NULL},
     {"[1, 1]", "[1, 2, 1]", NULL}},
    {SCHEMA,
     "{\"type\":\"array\",\"uniqueItems\":true,\"items\":{\"type\":[\"boolean\",\"null\"]"
     "}}",
     {"[]", "[true, false, null]", "[null]", NULL},
     {"[true, true]", "[null, true, null]", "[1]", NULL}},
    {SCHEMA,
     "{\"type\":\"array\",\"uniqueItems\":true,\"minItems\":2,\"items\":{\"type\":"
     "\"integer\","
     "\"minimum\":-0.5,\"exclusiveMaximum\":7}}",
     {"[6, 0]", "[0, 1, 2, 3, 4, 5, 6]", NULL},
     {"[0]", "[3, 3]", "[7, 1]", "[-1, 1]", "[1, 2, 1]", NULL}},
    {SCHEMA,
     "{\"type\":\"array\",\"uniqueItems\":true,\"items\":{\"oneOf\":[{\"const\":\"a\","
     "\"title\":"
     "\"A\"},{\"const\":\"b\"},{\"enum\":[\"a\",2]},{\"type\":\"boolean\"}]}}",
     {"[\"b\", true, 2]", "[false]", NULL},
     {"[\"b\", \"b\"]", "[2, 2]", "[false, false]", NULL}},
    {SCHEMA,
     "{\"type\":\"array\",\"uniqueItems\":true,\"items\":{\"enum\":[1,2,3],\"anyOf\":[{"
     "\"maximum\":2},{\"const\":1}]}}",
     {"[2, 1]", NULL},
     {"[3]", "[1, 1]", NULL}},
    {SCHEMA,
     "{\"type\":\"object\",\"properties\":{\"k\":{\"enum\":[1,2]},\"v\":{"
     "\"type\":\"integer\"}},\"required\":[\"k\"],\"if\":{\"properties\":{\"k\":{"
     "\"const\":1}}},\"then\":{\"required\":[\"v\"]},\"else\":{\"properties\":{"
     "\"v\":false}}}",
     {"{\"k\": 1,\"v\": 3}", "{\"k\": 2}", NULL},
     {"{\"k\": 1}", "{\"k\": 2,\"v\": 3}", NULL}},
    {SCHEMA,
     "{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{}},"
     "\"dependentRequired\":{\"a\":[\"b\"]}}",
     {"{}", "{\"b\": 1}", "{\"a\": 1,\"b\": 1}", NULL},
     {"{\"a\": 1}", NULL}},
    {SCHEMA,
     "{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{}},"
     "\"dependentSchemas\":{\"a\":{\"properties\":{\"b\":{\"const\":1}}}}}",
     {"{\"a\": 1,\"b\": 1}", "{\"b\": 2}", NULL},
     {"{\"a\": 1,\"b\": 2}", NULL}},
    {SCHEMA,
     "{\"type\":\"string\",\"not\":{\"enum\":[\"a\",\"b\\\"\"]}}",
     {"\"\"", "\"ab\"", "\"b\"", NULL},
     {"\"a\"", "\"\\u0061\"", "\"b\\\"\"", NULL}},
    {SCHEMA,
     "{\"type\":[\"integer\",\"null\",\"boolean\"],\"not\":{\"enum\":[0,12,null,"
     "true]}}",
     {"1", "120", "false", "-12", NULL},
     {"0", "12", "null", "true", NULL}},
    {SCHEMA,
     "{\"not\":{\"type\":[\"object\",\"array\",\"string\",\"number\"]}}",
     {"null", "true", NULL},
     {"1", "\"\"", "{}", NULL}},
    {SCHEMA,
     "{\"type\":\"object\",\"properties\":{\"a\":{\"not\":{}},\"b\":{}},\"not\":{"
     "\"required\":[\"b\"]}}",
     {"{}", NULL},
     {"{\"a\": 1}", "{\"b\": 1}", NULL}},
    {SCHEMA,
     "{\"enum\":[\"a\",\"bcd\",5,9],\"minLength\":2,\"maximum\":6}",
     {"\"bcd\"", "5", NULL},
     {"\"a\"", "9", NULL}},
    {SCHEMA,
     "{\"allOf\":[{\"pattern\":\"^a\"},{\"pattern\":\"z$\"}],\"type\":\"string\"}",
     {"\"az\"", "\"abz\"", NULL},
     {"\"a\"", "\"z\"", NULL}},
    {SCHEMA,
     "{\"allOf\":[{\"properties\":{\"a\":{}},\"additionalProperties\":false},"
     "{\"properties\":{\"b\":{}}}]}",
     {"{}", "{\"a\": 1}", NULL},
     {"{\"b\": 1}", NULL}},
    /* As others do; strictly, 1 is of both. */
    {SCHEMA,
     "{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}",
     {"1", "1.5", NULL},
     {"\"\"", NULL}},
};

/* Constraints in wide use; each as it is written and its contrary. */
static void constraints_hold(void **state) {
    (void)state;
    check(constraints_hold_cases,
          sizeof constraints_hold_cases / sizeof *constraints_hold_cases);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(annotations_say_nothing),
        cmocka_unit_test(the_last_of_members_with_one_name_counts),
        cmocka_unit_test(schemas_of_plain_values),
        cmocka_unit_test(formats_are_as_their_standards),
        cmocka_unit_test(numbers_keep_their_bounds),
        cmocka_unit_test(schemas_of_arrays),
        cmocka_unit_test(schemas_of_objects),
        cmocka_unit_test(schemas_that_combine),
        cmocka_unit_test(no_branch_of_many_is_lost),
        cmocka_unit_test(what_fits_one_of_too_many_readings_is_taken),
        cmocka_unit_test(constraints_hold),
    };
    return cmocka_run_group_tests(tests, open_vocabulary, close_vocabulary);
}
