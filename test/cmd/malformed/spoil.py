"""Ways to spoil a checkpoint: each returns what a case calls with the checkpoint's folder."""

import json
import struct

import good

SAFE = "model.safetensors"


def json_file(name, edit):
    """Edits a file's JSON in place; what `edit` returns, if anything, replaces it."""

    def spoil(folder):
        document = json.loads((folder / name).read_text())
        edited = edit(document)
        (folder / name).write_text(json.dumps(document if edited is None else edited))

    return spoil


def put(document, changes):
    """Sets keys; ... removes one."""
    for key, value in changes.items():
        if value is ...:
            del document[key]
        else:
            document[key] = value


def keys(name, **changes):
    return json_file(name, lambda document: put(document, changes))


def config(**changes):
    return keys("config.json", **changes)


def content(name, raw):
    raw = raw if isinstance(raw, bytes) else raw.encode()
    return lambda folder: (folder / name).write_bytes(raw)


def both(*spoils):
    def spoil(folder):
        for one in spoils:
            one(folder)

    return spoil


def replaced(name, old, new):
    """Replaces the first `old` in a file; it must be there."""

    def spoil(folder):
        raw = (folder / name).read_bytes()
        assert old in raw, (name, old)
        (folder / name).write_bytes(raw.replace(old, new, 1))

    return spoil


def removed(name):
    return lambda folder: (folder / name).unlink()


def split(raw):
    length = struct.unpack("<Q", raw[:8])[0]
    return json.loads(raw[8:8 + length]), raw[8 + length:]


def header(edit, name=SAFE):
    """Edits the JSON of a safetensors header; what `edit` returns replaces it: a document, text or bytes."""

    def spoil(folder):
        document, data = split((folder / name).read_bytes())
        edited = edit(document)
        if not isinstance(edited, (str, bytes)):
            edited = json.dumps(document if edited is None else edited)
        (folder / name).write_bytes(good.with_header(edited, data))

    return spoil


def row(tensor, **changes):
    """Sets fields of one tensor in the header."""
    return header(lambda h: put(h[tensor], changes))


def header_bytes(edit):
    """Edits the text of the header, byte by byte."""

    def spoil(folder):
        raw = (folder / SAFE).read_bytes()
        length = struct.unpack("<Q", raw[:8])[0]
        (folder / SAFE).write_bytes(good.with_header(edit(raw[8:8 + length]), raw[8 + length:]))

    return spoil


def tensors(edit, name=SAFE):
    """Edits the tensors of a file as {name: (dtype, shape, bytes)} and lays them out anew."""

    def spoil(folder):
        document, data = split((folder / name).read_bytes())
        document.pop("__metadata__", None)
        named = {n: (t["dtype"], t["shape"], data[slice(*t["data_offsets"])]) for n, t in document.items()}
        edit(named)
        (folder / name).write_bytes(good.safetensors(named))

    return spoil


def tensor(name, dtype=None, shape=None, raw=None):
    """Replaces parts of one tensor; raw may be a function of the bytes that are there."""

    def edit(named):
        old_dtype, old_shape, old_raw = named[name]
        new_raw = raw(old_raw) if callable(raw) else old_raw if raw is None else raw
        named[name] = (dtype or old_dtype, old_shape if shape is None else shape, new_raw)

    return tensors(edit)


def renamed(old, new):
    return tensors(lambda named: named.update({new: named.pop(old)}))


def dropped(name):
    return tensors(lambda named: named.pop(name))


def raw_file(edit, name=SAFE):
    return lambda folder: (folder / name).write_bytes(edit((folder / name).read_bytes()))


def archive(edit, name="pytorch_model.bin"):
    """Edits the members of pytorch_model.bin, {name: bytes}."""

    def spoil(folder):
        named = good.tensors()
        members = {"m/data.pkl": good.state_dict(named), "m/byteorder": b"little"}
        members.update({f"m/data/{key}": raw for key, (_, _, raw) in enumerate(named.values())})
        edit(members)
        (folder / name).write_bytes(good.archive(members))

    return spoil


def pickled(raw):
    """pytorch_model.bin with this data.pkl."""
    return lambda folder: (folder / "pytorch_model.bin").write_bytes(good.torch_file(raw))
