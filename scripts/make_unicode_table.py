#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints src/text/unicode_table.h: where `tokenizers` and our libraries know other Unicodes.

usage: $(scripts/test_venv.sh) scripts/make_unicode_table.py     (a Python with Unicode 14)

Regular expressions of `tokenizers` know Unicode 16, PCRE2 of Debian 12 knows 14: what came
between is taken from the former, by asking it for each category.  Its normalizers know
Unicode 9; what later versions would change is listed, so that we leave it alone.
"""
import unicodedata

from tokenizers import Regex, normalizers, pre_tokenizers

CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So".split()
CHARS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]


def ranges(codes):
    found = []
    for code in codes:
        if found and code == found[-1][1] + 1:
            found[-1][1] = code
        else:
            found.append([code, code])
    return found


def newer():
    lines = []
    unassigned = [c for c in CHARS if unicodedata.category(chr(c)) == "Cn"]
    for name in CATEGORIES:
        split = pre_tokenizers.Split(Regex(rf"\p{{{name}}}"), "removed")
        members = [c for c in unassigned if not split.pre_tokenize_str(chr(c))]
        lines += [(first, last, name) for first, last in ranges(members)]
    return sorted(lines)


def inert():
    nfd, nfkd = normalizers.NFD(), normalizers.NFKD()
    found = set()
    for code in CHARS:
        char = chr(code)
        rank = unicodedata.combining(char)
        if rank:
            pair = "a\u0345" + char if rank < 240 else "a" + char + "\u0323"
            if nfd.normalize_str(pair) == pair:
                found.add(code)
        if unicodedata.normalize("NFKD", char) != nfkd.normalize_str(char):
            found.add(code)
            if unicodedata.normalize("NFD", char) != nfd.normalize_str(char):
                found.add(ord(unicodedata.normalize("NFD", char)[-1]))  # composes no more
    return ranges(sorted(found))


def main():
    assert unicodedata.unidata_version == "14.0.0"
    print("/* SPDX-License-Identifier: Apache-2.0 */")
    print("/* Written by scripts/make_unicode_table.py, which says what it is; do not edit. */")
    print("#ifndef COHORT_TEXT_UNICODE_TABLE_H\n#define COHORT_TEXT_UNICODE_TABLE_H\n")
    print("#include <stdint.h>\n")
    print("/* Characters of Unicode 15 and 16, with their general category. */")
    print("static const struct {\n    uint32_t first, last;\n    char category[3];\n} newer[] = {")
    for first, last, name in newer():
        print(f"    {{0x{first:x}, 0x{last:x}, \"{name}\"}},")
    print("};\n\n/* Characters of Unicode 10 to 14 that a normalizer of Unicode 9 leaves alone. */")
    print("static const struct {\n    uint32_t first, last;\n} inert[] = {")
    for first, last in inert():
        print(f"    {{0x{first:x}, 0x{last:x}}},")
    print("};\n\n#endif /* COHORT_TEXT_UNICODE_TABLE_H */")


if __name__ == "__main__":
    main()
