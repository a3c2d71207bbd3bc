#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes texts with what PyPI's `tokenizers` makes of them, for a test to compare.

usage: tokenizer_cases.py OUT_DIR SEED COUNT [NAME=TOKENIZER.json[.xz] ...]
                                          (scripts/test_venv.sh has the packages)

For each tokenizer, OUT_DIR/NAME/tokenizer.json and OUT_DIR/NAME/cases.jsonl: COUNT random
texts, and half as many random lists of ids.  Without tokenizers given, small ones are trained
here, one in the spelling of each family of models.  The output is a function of the
arguments and of the version of `tokenizers`.  A line is one of

    {"text": ..., "ids": [...], "special": [...], "decoded": ..., "skipped": ...}
    {"ids": [...], "decoded": ..., "skipped": ...}

special: the ids with the post-processor's tokens; decoded and skipped: ids as text, with
special tokens and without.  Where flags, bytes or characters can meet in pairs, all pairs follow.  What holds a NUL is written as NAME_hex instead.
"""
import json
import lzma
import os
import random
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
          r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
          r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
MARK = "\u2581"

CORPUS = """The capital of France is Paris, isn't it? They'll say we've been HERE before.
def main(argc, argv):\n    return {"key": [1, 2, 345], 'x': None}  # 67890
It was the best of times, it was the worst of times; the cat sat on the mat and the dog ran.
Déjà vu, naïve façade, coöperate, Ångström, Zürich straße, año, smörgåsbord.
Съешь же ещё этих мягких французских булок, да выпей чаю. Ελληνικά γράμματα είναι εδώ.
日本語の文章をここに書きます。東京は日本の首都です。中文字符也在这里。 한국어 문장도 있습니다.
مرحبا بالعالم שלום עולם नमस्ते दुनिया สวัสดีชาวโลก 👩‍👩‍👧 🏴󠁧󠁢󠁥󠁮󠁧󠁿 😀😃 → ≤ ½ ²
lower lowest newer newest wider widest low new wide the them then there these those
""".split("\n")

SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", "\v", "\f", "\x85", "\xa0", "\u1680",
          "\u180e", "\u2003", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\u200b",
          "\ufeff", MARK]
DIGITS = ["0", "1", "7", "42", "1234567", "٣", "५", "²", "½", "Ⅷ", "一", "𝟘", "⑤", "௰"]
MARKS = ["\u0301", "\u0308", "\u0323", "\u0327", "\u0345", "\u093c", "\u3099", "\u20e3",
         "\ufe0f", "\u200d", "\u0e33", "\u0f73"]
JOINED = ["é", "e\u0301", "ﬁ", "Å", "\u212b", "\u2126", "\u1100\u1161\u11a8", "각", "ǆ", "ẛ̣",
          "\u0958", "\u2adc", "ﷺ", "\U0001d15e", "İ", "ſ", "K", "\uac00\u11a8"]
SHORT = ["'s", "'S", "'ll", "'Re", "'vE", "'D", "'ſ", "'", "''t", "I'M"]
EMOJI = ["👩‍👩‍👧", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "😀", "👍🏽", "❤️", "🇫🇷"]


def any_char(rng):
    top = rng.choice([0x80, 0x250, 0x3000, 0x10000, 0x20000, 0x110000])
    while True:
        code = rng.randrange(top)
        if not 0xD800 <= code <= 0xDFFF:
            return chr(code)


def piece(rng, extra):
    kind = rng.randrange(13)
    if kind < 3:
        words = rng.choice(CORPUS).split(" ")
        at = rng.randrange(len(words))
        return " ".join(words[at:at + rng.randint(1, 4)])
    if kind == 3:
        return "".join(rng.choice("abcdefghijklmnopqrstuvwxyzABCXYZ") for _ in range(rng.randint(1, 9)))
    if kind == 4:
        return "".join(any_char(rng) for _ in range(rng.randint(1, 4)))
    if kind == 5 and extra:
        return rng.choice(extra) * rng.choice([1, 1, 1, 2])
    if kind == 6:
        return rng.choice("([{<.,;:!?\"#$%&*+-/=@\\^_`|~>}])") * rng.randint(1, 3)
    if kind == 7:
        return rng.choice("abeouAEO") + "".join(rng.sample(MARKS, rng.randint(1, 3)))
    return rng.choice([SPACES, SPACES, DIGITS, JOINED, SHORT, EMOJI, CORPUS][rng.randrange(7)])


def random_text(rng, extra):
    joint = rng.choice(["", "", " "])
    return joint.join(piece(rng, extra) for _ in range(rng.randint(0, 12)))


# ---- tokenizers of our own, in the spellings of others --------------------------------

def trained(pre_tokenizer, normalizer, vocab_size, special, alphabet=()):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=special, min_frequency=2,
                                  initial_alphabet=list(alphabet), show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def byte_level(split, special, normalizer=None, prefix=False, own_regex=False,
               **model_options):
    """split: the pre-tokenizers before ByteLevel; own_regex: ByteLevel splits, too."""
    last = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=own_regex)
    chain = pre_tokenizers.Sequence(split + [last]) if split else last
    vocab, merges = trained(chain, normalizer, 420, special, pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab, merges, **model_options))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = chain
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def isolated(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated", invert=False)


def begin_with(tokenizer, token, end=None):
    single = f"{token}:0 $A:0" + (f" {end}:0" if end else "")
    special = [(name, tokenizer.token_to_id(name)) for name in (token, end) if name]
    return processors.TemplateProcessing(single=single, pair=single + " $B:1",
                                         special_tokens=special)


def llama3(words=()):
    tokenizer = byte_level([isolated(LLAMA3)], [], ignore_merges=True)
    state = json.loads(tokenizer.to_str())
    for word in words:
        state["model"]["vocab"].setdefault(word, len(state["model"]["vocab"]))
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"])
    tokenizer.post_processor = processors.Sequence(
        [processors.ByteLevel(trim_offsets=False), begin_with(tokenizer, "<|begin_of_text|>")])
    return tokenizer


def llama3_whole_words():
    """ignore_merges with words that no merge leads to."""
    return llama3(["ĠParis", "Ġdog", "return", "caf\u00c3\u00a9", "Ġworst", "Ġparle"])


def qwen2():
    tokenizer = byte_level([isolated(QWEN2)], [], normalizers.NFC())
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens([AddedToken("<tool_call>", normalized=False),
                          AddedToken("</tool_call>", normalized=False)])
    return tokenizer


def gpt2():
    tokenizer = byte_level([], [], own_regex=True)
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", normalized=True, special=True)])
    return tokenizer


def opt():
    tokenizer = byte_level([], ["<s>", "<pad>", "</s>", "<unk>"], prefix=True, own_regex=True)
    tokenizer.add_special_tokens([AddedToken(t, normalized=True, special=True)
                                  for t in ("<s>", "<pad>", "</s>", "<unk>")])
    tokenizer.post_processor = begin_with(tokenizer, "</s>")
    return tokenizer


def tekken():
    tokenizer = byte_level([isolated(TEKKEN)], ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"],
                           ignore_merges=True)
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>", "[INST]", "[/INST]"])
    tokenizer.post_processor = begin_with(tokenizer, "<s>", "</s>")
    return tokenizer


def digits():
    """SmolLM2, StarCoder."""
    tokenizer = byte_level([pre_tokenizers.Digits(individual_digits=True)], [], own_regex=True)
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    return tokenizer


def deepseek():
    chain = [isolated("[\r\n]"), isolated("\\s?\\p{L}+"), isolated("\\s?\\p{P}+"), isolated("\\s+$"),
             isolated("[一-龥ࠀ-一가-퟿]+"), pre_tokenizers.Digits(individual_digits=True)]
    tokenizer = byte_level(chain, [], normalizers.Sequence([]))
    tokenizer.add_special_tokens([AddedToken("<｜begin▁of▁sentence｜>", normalized=True)])
    tokenizer.add_tokens([AddedToken("<｜User｜>", normalized=False)])
    return tokenizer


def behaviors(behavior, pattern, invert):
    def make():
        chain = [pre_tokenizers.Split(pattern, behavior, invert=invert),
                 pre_tokenizers.Digits(individual_digits=False)]
        return byte_level(chain, [])
    return make


def odd_added():
    """Every option of an added token."""
    tokenizer = byte_level([], [], normalizers.NFKC(), own_regex=True)
    tokenizer.add_tokens([AddedToken("LEFT", lstrip=True), AddedToken("RIGHT", rstrip=True),
                          AddedToken("BOTH", lstrip=True, rstrip=True, normalized=False),
                          AddedToken("word", single_word=True),
                          AddedToken("né", single_word=True, normalized=False),
                          AddedToken("newest", normalized=True), AddedToken("new", normalized=True),
                          AddedToken("ﬁ", normalized=True), AddedToken("newes", normalized=False)])
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    return tokenizer


FLAGGED = [f"<{i:x}>" for i in range(16)]


def added_flags():
    """Every combination of an added token's flags; the last bit: not normalized."""
    tokenizer = byte_level([], [], normalizers.NFKC(), own_regex=True)
    for i, content in enumerate(FLAGGED):
        tokenizer.add_tokens([AddedToken(content, lstrip=bool(i & 1), rstrip=bool(i & 2),
                                         single_word=bool(i & 4), normalized=not i & 8)])
    return tokenizer


def flag_pairs():
    """Each beside each, and each before and behind each of what may stand between."""
    between = ["", " ", "  ", "x", " x ", "\n", "é ", "_"]
    for i, left in enumerate(FLAGGED):
        yield "".join(left + between[(i + j) % 8] + right + between[(i + 3 * j + 1) % 8]
                      for j, right in enumerate(FLAGGED))


def missing_bytes():
    """Byte fallback where two bytes, of the middle and of the front, are not there."""
    return sentencepiece(normalizer=prepend(), without=(0xE3, 0xA9))


def byte_texts():
    """Characters that need the missing bytes first, in the middle and last, or not at all."""
    for text in ("\u3042", "\u4e29", "\u0a69", "\U0001f629", "\u30a9\u30e3", "\u4e00", "\U0001f600"):
        yield f"{text}"
        yield f"a{text}{text} \u4e8c{text}"


def nfc_new():
    """Marks and compositions that came after the Unicode of the reference's normalizers."""
    return byte_level([], [], normalizers.NFC(), own_regex=True)


def new_characters():
    for code in (0x7FD, 0x898, 0x8CA, 0x8D3, 0x9FE, 0xC3C, 0xD3B, 0xEBA, 0x1715, 0x1ABF, 0x1ACE, 0x1DF6,
                 0x1DFA, 0xA82C, 0x10D24, 0x10EAB, 0x10EFD, 0x10F46, 0x10F82, 0x11070, 0x1133B, 0x1145E,
                 0x11839, 0x11943, 0x119E0, 0x11A34, 0x11D42, 0x11D97, 0x11F41, 0x16FF0, 0x1E08F,
                 0x1E130, 0x1E2AE, 0x1E2EC, 0x1E4EC):
        yield f"{chr(code)}a\u0301{chr(code)}\u0323 e\u0327{chr(code)}\u0301"
    yield "\U00011935\U00011930 \U00011131\U00011127"  # composed later, and before


def sentencepiece(legacy_merges=False, normalizer=None, pre_tokenizer=None, decoder=None,
                  bytes_from=0, without=(), fuse_unk=True, special=("<unk>", "<s>", "</s>")):
    learn = pre_tokenizers.Metaspace(MARK, prepend_scheme="always", split=True)
    vocab, merges = trained(learn, None, 420, list(special))
    shift = list(special) + [f"<0x{byte:02X}>" for byte in range(bytes_from, 256)
                             if byte not in without]
    rest = [token for token in sorted(vocab, key=vocab.get) if token not in special]
    # leave the rarer characters to the bytes
    kept = {token for token in rest if len(token) > 1 or ord(token) < 0x180 or token == MARK}
    merges = [(a, b) for a, b in merges if a in kept and b in kept and a + b in kept]
    made = {a + b for a, b in merges}
    kept = {token for token in kept if len(token) == 1 or token in made}
    vocab = {token: i for i, token in enumerate(shift + [t for t in rest if t in kept])}
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=fuse_unk,
                                     byte_fallback=True))
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in special])
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoder or decoders.Sequence(
        [decoders.Replace(MARK, " "), decoders.ByteFallback(), decoders.Fuse(),
         decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = begin_with(tokenizer, "<s>")
    return tokenizer


def prepend():
    return normalizers.Sequence([normalizers.Prepend(MARK), normalizers.Replace(" ", MARK)])


def llama2():
    return sentencepiece(normalizer=prepend())


def phi3():
    tokenizer = sentencepiece(normalizer=prepend())
    tokenizer.add_special_tokens([AddedToken(t, rstrip=True, normalized=False, special=True)
                                  for t in ("<|user|>", "<|assistant|>", "<|end|>")])
    tokenizer.add_tokens([AddedToken("</tool>", rstrip=True, lstrip=False, normalized=True)])
    return tokenizer


def mistral():
    return sentencepiece(pre_tokenizer=pre_tokenizers.Metaspace(MARK, prepend_scheme="first",
                                                                split=False))


def metaspace(scheme, split):
    def make():
        tokens = pre_tokenizers.Metaspace(MARK, prepend_scheme=scheme, split=split)
        return sentencepiece(pre_tokenizer=tokens, decoder=decoders.Metaspace(
            MARK, prepend_scheme=scheme, split=split), bytes_from=128, fuse_unk=split)
    return make


def gemma():
    tokenizer = sentencepiece(
        normalizer=normalizers.Replace(" ", MARK),
        pre_tokenizer=pre_tokenizers.Split(" ", "merged_with_previous"),
        decoder=decoders.Sequence([decoders.Replace(MARK, " "), decoders.ByteFallback(),
                                   decoders.Fuse()]),
        special=("<pad>", "<unk>", "<s>", "</s>"))
    tokenizer.add_tokens([AddedToken("\n\n", normalized=False), AddedToken(MARK * 3)])
    return tokenizer


FAMILIES = {
    "llama3": llama3, "llama3_whole_words": llama3_whole_words, "qwen2": qwen2, "gpt2": gpt2,
    "opt": opt, "tekken": tekken, "digits": digits, "deepseek": deepseek,
    "odd_added": odd_added, "llama2": llama2, "tinyllama": llama2, "phi3": phi3,
    "mistral": mistral, "gemma": gemma,
    "metaspace_always": metaspace("always", True), "metaspace_first": metaspace("first", True),
    "metaspace_never": metaspace("never", False),
    "split_removed": behaviors("removed", Regex("\\s+"), False),
    "split_previous": behaviors("merged_with_previous", " ", False),
    "split_next": behaviors("merged_with_next", Regex("[aeo]|\\p{Lo}"), False),
    "split_contiguous": behaviors("contiguous", Regex("."), True),
    "split_inverted": behaviors("isolated", Regex("\\w+"), True),
    "added_flags": added_flags, "missing_bytes": missing_bytes, "nfc_new": nfc_new,
}
PAIRS = {"added_flags": flag_pairs, "missing_bytes": byte_texts, "nfc_new": new_characters}
OLD_MERGES = {"tinyllama", "gpt2"}


# ---- cases ------------------------------------------------------------------------------

def put(line, name, text):
    if "\0" in text:
        line[name + "_hex"] = text.encode().hex()
    else:
        line[name] = text


def case(tokenizer, text, ids):
    line = {}
    if text is not None:
        put(line, "text", text)
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        line["special"] = tokenizer.encode(text).ids
    line["ids"] = ids
    put(line, "decoded", tokenizer.decode(ids, skip_special_tokens=False))
    put(line, "skipped", tokenizer.decode(ids, skip_special_tokens=True))
    return line


def write_cases(path, tokenizer, rng, count, pairs):
    n = tokenizer.get_vocab_size(with_added_tokens=True)
    extra = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    with open(path, "w", encoding="utf-8") as out:
        for i in range(count + count // 2):
            text = random_text(rng, extra) if i < count else None
            ids = [rng.randrange(n) for _ in range(rng.randint(0, 12))]
            json.dump(case(tokenizer, text, ids), out, ensure_ascii=False, separators=(",", ":"))
            out.write("\n")
        for text in pairs:
            json.dump(case(tokenizer, text, None), out, ensure_ascii=False, separators=(",", ":"))
            out.write("\n")


def with_old_merges(state):
    """"a b" in place of ["a", "b"], as files before 2024 have it."""
    merges = state["model"]["merges"]
    state["model"]["merges"] = [" ".join(merge) for merge in merges]
    del state["model"]["ignore_merges"]


def read_given(path):
    with (lzma.open if path.endswith(".xz") else open)(path, "rb") as file:
        return file.read().decode()


def main():
    out, seed, count, given = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
    sources = [argument.split("=", 1) for argument in given] or [(name, None) for name in FAMILIES]
    for name, path in sources:
        folder = os.path.join(out, name)
        os.makedirs(folder, exist_ok=True)
        if path:
            text = read_given(path)
        else:
            state = json.loads(FAMILIES[name]().to_str())
            if name in OLD_MERGES:
                with_old_merges(state)
            text = json.dumps(state, ensure_ascii=False, separators=(",", ":"))
        with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as file:
            file.write(text)
        write_cases(os.path.join(folder, "cases.jsonl"), Tokenizer.from_str(text),
                    random.Random(f"{seed} {name}"), count,
                    [] if path else PAIRS.get(name, list)())


if __name__ == "__main__":
    main()
