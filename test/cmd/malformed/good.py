"""Sound mini-checkpoints, each a few kilobytes, that the cases then spoil."""

import io
import json
import math
import pickle
import struct
import sys
import types
import zipfile

HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, VOCAB = 64, 128, 2, 4, 2, 264
SPECIALS = ["<s>", "</s>", "<|x|>"]
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"


def byte_alphabet():
    """GPT-2's spelling of the 256 bytes as printable characters."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = (256 + i for i in range(256))
    return [chr(b) if b in kept else chr(next(moved)) for b in range(256)]


def tokenizer():
    vocab = {c: i for i, c in enumerate(byte_alphabet())}
    vocab.update({"he": 256, "ll": 257, "hell": 258})
    added = [
        {"id": 259 + i, "content": s, "special": True, "normalized": False, "single_word": False, "lstrip": False,
         "rstrip": False} for i, s in enumerate(SPECIALS)]
    return {
        "version": "1.0", "added_tokens": added, "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": " ?\\S+"}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}]},
        "post_processor": {"type": "ByteLevel", "trim_offsets": False},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": vocab, "merges": [["h", "e"], ["l", "l"], ["he", "ll"]],
                  "unk_token": None, "byte_fallback": False}}


def config():
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
        "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "vocab_size": VOCAB, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": False, "torch_dtype": "bfloat16",
        "bos_token_id": 259, "eos_token_id": 260}


def shapes():
    kv = HIDDEN // HEADS * KV_HEADS
    named = {"model.embed_tokens.weight": [VOCAB, HIDDEN], "model.norm.weight": [HIDDEN],
             "lm_head.weight": [VOCAB, HIDDEN]}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        named.update({
            at + "input_layernorm.weight": [HIDDEN], at + "post_attention_layernorm.weight": [HIDDEN],
            at + "self_attn.q_proj.weight": [HIDDEN, HIDDEN], at + "self_attn.k_proj.weight": [kv, HIDDEN],
            at + "self_attn.v_proj.weight": [kv, HIDDEN], at + "self_attn.o_proj.weight": [HIDDEN, HIDDEN],
            at + "mlp.gate_proj.weight": [INNER, HIDDEN], at + "mlp.up_proj.weight": [INNER, HIDDEN],
            at + "mlp.down_proj.weight": [HIDDEN, INNER]})
    return named


def bf16(count, seed):
    """Values of a smooth, never repeating row: half the bytes of float32 are those of bfloat16."""
    return b"".join(struct.pack("<f", 0.1 * math.sin(seed + 0.7 * i))[2:] for i in range(count))


def tensors():
    return {name: ("BF16", shape, bf16(math.prod(shape), seed)) for seed, (name, shape) in enumerate(shapes().items())}


def safetensors(named):
    """The bytes of a file: named is {name: (dtype, shape, bytes)}."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (dtype, shape, raw) in named.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    return with_header(json.dumps(header), data)


def with_header(text, data):
    raw = text if isinstance(text, bytes) else text.encode()
    raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw)) + raw + data


class Global:
    """Pickles as a reference to a name of torch, without torch."""

    def __init__(self, module, name):
        sys.modules.setdefault(module, types.ModuleType(module))
        self.type = type(name, (), {"__module__": module, "__qualname__": name})
        setattr(sys.modules[module], name, self.type)


class Rebuilt:
    def __init__(self, maker, arguments):
        self.made = (maker, arguments)

    def __reduce__(self):
        return self.made


class Storage:
    def __init__(self, *identity):
        self.identity = identity


class TorchPickler(pickle.Pickler):
    def persistent_id(self, value):
        return value.identity if isinstance(value, Storage) else None


def state_dict(named):
    """data.pkl of {name: (dtype, shape, bytes)}, as torch.save() writes it."""
    for module in ("torch", "torch._utils"):
        sys.modules.setdefault(module, types.ModuleType(module))
    rebuild = Global("torch._utils", "_rebuild_tensor_v2").type
    kind = Global("torch", "BFloat16Storage").type
    state = {}
    for key, (name, (_, shape, raw)) in enumerate(named.items()):
        strides = tuple(math.prod(shape[i + 1:]) for i in range(len(shape)))
        storage = Storage("storage", kind, str(key), "cpu", len(raw) // 2)
        state[name] = Rebuilt(rebuild, (storage, 0, tuple(shape), strides, False, {}))
    out = io.BytesIO()
    TorchPickler(out, protocol=2).dump(state)
    return out.getvalue()


def archive(members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as file:
        for name, raw in members.items():
            file.writestr(name, raw)
    return out.getvalue()


def torch_file(pickled=None):
    named = tensors()
    members = {"m/data.pkl": state_dict(named) if pickled is None else pickled, "m/byteorder": b"little"}
    members.update({f"m/data/{key}": raw for key, (_, _, raw) in enumerate(named.values())})
    return archive(members)


def write_model(folder, weights=True):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config()))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer()))
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
         "chat_template": TEMPLATE}))
    (folder / "generation_config.json").write_text(json.dumps({"bos_token_id": 259, "eos_token_id": [260]}))
    if weights:
        (folder / "model.safetensors").write_bytes(safetensors(tensors()))


def write_sharded(folder):
    write_model(folder, weights=False)
    named = list(tensors().items())
    index = {}
    for number, part in enumerate((named[:9], named[9:]), 1):
        shard = f"model-0000{number}-of-00002.safetensors"
        (folder / shard).write_bytes(safetensors(dict(part)))
        index.update({name: shard for name, _ in part})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def write_torch(folder):
    write_model(folder, weights=False)
    (folder / "pytorch_model.bin").write_bytes(torch_file())


def write_vocab_merges(folder):
    write_model(folder)
    (folder / "tokenizer.json").unlink()
    model = tokenizer()["model"]
    vocab = {**model["vocab"], **{s: 259 + i for i, s in enumerate(SPECIALS)}}
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in model["merges"]))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))


def write_sentencepiece(folder, demo):
    write_model(folder)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"}))
    (folder / "tokenizer.model").write_bytes((demo / "tokenizer.model").read_bytes())


def write_tiktoken(folder):
    import base64
    write_model(folder)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text("{}")
    ranks = [bytes([b]) for b in range(256)] + [b"he", b"ll", b"hell"]
    (folder / "tokenizer.model").write_text(
        "".join(f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(ranks)))
