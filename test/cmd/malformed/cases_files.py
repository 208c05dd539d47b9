"""What is not a file where one should be, or not where it should be."""

import os

from spoil import SAFE, both, content, removed

ALL = "inspect footprint quantize generate"
INDEX = "model.safetensors.index.json"


def instead(name, make):
    """Removes a file and puts something of its name there."""

    def spoil(folder):
        path = folder / name
        if path.exists():
            path.unlink()
        make(path)

    return spoil


def folder_at(path):
    path.mkdir()


def link_to(target):
    return lambda path: path.symlink_to(target)


def unreadable(name):
    return lambda folder: (folder / name).chmod(0)


def socket_at(path):
    import socket
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path has at most 108 bytes
    server = socket.socket(socket.AF_UNIX)
    server.bind(path.name)
    server.close()
    os.chdir(here)


CASES = [
    ("config_missing", "plain", removed("config.json"), 3, "config.json", ALL),
    ("weights_missing", "plain", removed(SAFE), 3, "holds no weights", ALL),
    ("weights_of_gguf", "plain", both(removed(SAFE), content("model.gguf", "GGUF")), 5, "model.gguf", ALL),
    ("tokenizer_missing", "plain", removed("tokenizer.json"), 3, "no tokenizer", "generate tokenize"),
    ("weights_are_folder", "plain", instead(SAFE, folder_at), 10, "not a regular file", ALL),
    ("weights_are_pipe", "plain", instead(SAFE, os.mkfifo), 10, "not a regular file", ALL),
    ("weights_are_socket", "plain", instead(SAFE, socket_at), 10, SAFE, ALL),
    ("weights_are_device", "plain", instead(SAFE, link_to("/dev/zero")), 10, "not a regular file", ALL),
    ("weights_are_loop", "plain", instead(SAFE, link_to(SAFE)), 10, SAFE, ALL),
    ("weights_link_nowhere", "plain", instead(SAFE, link_to("nowhere")), 3, "does not exist", ALL),
    ("config_is_folder", "plain", instead("config.json", folder_at), 10, "config.json", ALL),
    ("config_is_pipe", "plain", instead("config.json", os.mkfifo), 10, "not a regular file", ALL),
    ("config_is_endless", "plain", instead("config.json", link_to("/dev/zero")), 10, "not a regular file", ALL),
    ("config_is_loop", "plain", instead("config.json", link_to("config.json")), 10, "config.json", ALL),
    ("index_is_pipe", "sharded", instead(INDEX, os.mkfifo), 10, "not a regular file", ALL),
    ("index_is_folder", "sharded", instead(INDEX, folder_at), 10, INDEX, ALL),
    ("shard_is_pipe", "sharded", instead("model-00002-of-00002.safetensors", os.mkfifo), 10, "not a regular file", ALL),
    ("torch_is_pipe", "torch", instead("pytorch_model.bin", os.mkfifo), 10, "not a regular file", ALL),
    ("tokenizer_is_pipe", "plain", instead("tokenizer.json", os.mkfifo), 10, "not a regular file", "tokenize generate"),
    ("class_config_is_pipe", "plain", instead("tokenizer_config.json", os.mkfifo), 10, "not a regular file", "tokenize generate"),
    ("generation_is_pipe", "plain", instead("generation_config.json", os.mkfifo), 10, "not a regular file",
     "footprint quantize generate"),
    ("sentencepiece_is_pipe", "sentencepiece", instead("tokenizer.model", os.mkfifo), 10, "not a regular file", "tokenize"),
    ("merges_are_pipe", "vocab_merges", instead("merges.txt", os.mkfifo), 10, "not a regular file", "tokenize"),
    ("template_is_pipe", "plain", instead("chat_template.jinja", os.mkfifo), 10, "not a regular file", "render"),
    ("model_is_pipe", "plain", lambda f: None, 0, "", ""),
]
# Whoever may read everything, reads these, too.
if os.geteuid() != 0:
    CASES += [
        ("weights_unreadable", "plain", unreadable(SAFE), 10, "Permission denied", ALL),
        ("config_unreadable", "plain", unreadable("config.json"), 10, "Permission denied", ALL),
        ("tokenizer_unreadable", "plain", unreadable("tokenizer.json"), 10, "Permission denied", "tokenize generate"),
    ]
CASES = [case for case in CASES if case[5]]
