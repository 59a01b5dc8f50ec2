"""Bytes of strangers: mutants of every file of a base model, read or refused in one line."""

import json
import random

import pytest

from finetune.data_files import LLAMA_CHAT, byte_tokenizer, write_task
from finetune.tiny import LLAMA, model
from jaxtask.errors import DataError, JaxtaskError
from jaxtask.finetune.chat import Conversation, render
from jaxtask.finetune.models.load import load_model, save_model
from jaxtask.finetune.task_data import read_task
from jaxtask.finetune.tokens import Tokens, open_tokenizer

_NUMBERS = [0, 1, 255, 2**31 - 1, 2**32 - 1, 2**63, 2**64 - 1]
_VALUES = [None, True, -1, 0, 10**30, 1.5, float("nan"), "", "x", [], {}, [[1]], {"a": 1}, "\ud800"]


def of_bytes(content, chance):
    """The content with a few bytes changed, added, lost, or cut off."""
    content = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 4])):
        place = chance.randrange(len(content) + 1)
        length = chance.randrange(1, 20)
        other = chance.choice(
            [
                bytes([chance.randrange(256)]),
                b"",
                chance.randbytes(length),
                chance.choice(_NUMBERS).to_bytes(8, "little"),
                bytes(content[place : place + 60]) * 2,
            ]
        )
        content[place : place + len(other)] = other
        if chance.random() < 0.1:
            del content[place:]
    return bytes(content)


def of_json(value, chance):
    """The value with one within it replaced or left out."""
    places, queue = [], [(value, ())]
    while queue:
        item, path = queue.pop()
        places.append(path)
        if isinstance(item, dict | list):
            inner = item.items() if isinstance(item, dict) else enumerate(item[:20])
            queue += [(own, (*path, name)) for name, own in inner]
    path = chance.choice(places)
    if not path:
        return chance.choice(_VALUES)
    value = json.loads(json.dumps(value))
    item = value
    for name in path[:-1]:
        item = item[name]
    if chance.random() < 0.2:
        del item[path[-1]]
    else:
        item[path[-1]] = chance.choice(_VALUES)
    return value


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A base model with its tokenizer, and a task."""
    folder = tmp_path_factory.mktemp("mutants")
    save_model(model(LLAMA), folder / "base")
    byte_tokenizer(chat_template=LLAMA_CHAT).save_pretrained(folder / "base")
    row = {"instruction": "a", "text": "b", "target": "c"}
    write_task(folder / "task", [row, row])
    return folder


def read_tokenizer(folder):
    tokens = Tokens(open_tokenizer(folder / "base"))
    tokens.encode(["Hello <s>"], special=True)


READERS = {
    "base/config.json": lambda folder: load_model(folder / "base", "float32"),
    "base/model.safetensors": lambda folder: load_model(folder / "base", "float32"),
    "base/tokenizer.json": read_tokenizer,
    "base/tokenizer_config.json": read_tokenizer,
    "task/task.json": lambda folder: read_task(folder / "task"),
    "task/train.jsonl": lambda folder: read_task(folder / "task"),
}


@pytest.mark.parametrize("name", READERS)
def test_files(folder, name, capfd):
    file = folder / name
    good = file.read_bytes()
    head = good[: 4000 if name.endswith("safetensors") else None]
    refused = []
    for n in range(60):
        chance = random.Random(f"{name} {n}")
        if n % 2 and name.endswith("json"):
            content = json.dumps(of_json(json.loads(good), chance)).encode()
        else:
            content = of_bytes(head, chance) + good[len(head) :]
        file.write_bytes(content)
        try:
            READERS[name](folder)
        except JaxtaskError as error:
            refused.append(str(error))
    file.write_bytes(good)
    READERS[name](folder)
    assert len(refused) > 5
    assert all("\n" not in said and len(said) < 1000 for said in refused)
    printed = capfd.readouterr()
    assert "panicked" not in printed.err
    assert not printed.out


def test_chat_templates():
    asked = [Conversation([{"role": "user", "content": "hi"}], "task, line 1", True)]
    refused = []
    for n in range(8):
        template = of_bytes(LLAMA_CHAT.encode(), random.Random(n)).decode(errors="replace")
        try:
            render(template, {"bos_token": "<s>", "eos_token": "</s>"}, asked, "tokenizer")
        except DataError as error:
            refused.append(str(error))
    assert len(refused) > 2
    assert all("\n" not in said and said.startswith("task, line 1: ") for said in refused)
