"""Tokenizers inside GGUF files, written here by the `gguf` package from a known tokenizer."""

import dataclasses
import json

import pytest
from typer.testing import CliRunner

from finetune.data_files import LLAMA_CHAT, TEXTS, byte_tokenizer
from jaxtask.cli.tasks import app
from jaxtask.errors import DataError
from jaxtask.finetune.data import gguf_tokenizer
from jaxtask.finetune.data.examples import open_tokenizer

gguf = pytest.importorskip("gguf", reason="reading GGUF files needs the gguf package")
ODD = [
    "",
    " ",
    "  two\n\n\tspaces ",
    "İstanbul’da 3.141\r\n",
    "¿qué? 日本語 🙂",
    "<s>x</s><|eot|>y",
]


def write(file, tokenizer, kind="gpt2", split="gpt-2", begin=True):
    """A GGUF file with nothing but a tokenizer."""
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_tokenizer_model(kind)
    writer.add_tokenizer_pre(split)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if t in tokenizer.get_added_vocab() else 1 for t in tokens])
    writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_add_bos_token(begin)
    writer.add_chat_template(LLAMA_CHAT)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return file


def test_it_is_the_tokenizer_that_was_written(tmp_path):
    known = byte_tokenizer()
    found = open_tokenizer(write(tmp_path / "m.gguf", known))
    for text in [*TEXTS, *ODD]:
        ids = known(text)["input_ids"]
        assert found(text)["input_ids"] == ids
        assert found.decode(ids) == known.decode(ids)
    assert (found.bos_token, found.eos_token) == ("<s>", "</s>")
    assert found.chat_template == LLAMA_CHAT
    bare = open_tokenizer(write(tmp_path / "bare.gguf", known, begin=False))
    assert bare("dog")["input_ids"] == known("dog", add_special_tokens=False)["input_ids"]


def test_digits_are_split_as_the_file_says(tmp_path):
    known = byte_tokenizer()
    for split, pieces in (
        ("gpt-2", ["a", "\n", "\n", "1234", " b"]),
        ("smollm", ["a", "\n\n", "1", "2", "3", "4", " b"]),
        ("llama-bpe", ["a", "\n\n", "123", "4", " b"]),
    ):
        found = open_tokenizer(write(tmp_path / f"{split}.gguf", known, split=split))
        parts = found.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a\n\n1234 b")
        assert [text.replace("Ċ", "\n").replace("Ġ", " ") for text, _ in parts] == pieces


def test_what_cannot_be_read(tmp_path):
    known = byte_tokenizer()
    for options, said in (
        ({"kind": "llama"}, r"kind 'llama' \(gpt-2\), expected 'gpt2'"),
        ({"split": "tekken"}, r"kind 'gpt2' \(tekken\), .*own tokenizer"),
    ):
        file = write(tmp_path / "m.gguf", known, **options)
        with pytest.raises(DataError, match=said):
            open_tokenizer(file)
    (tmp_path / "cut.gguf").write_bytes(file.read_bytes()[:300])
    for name in ("cut", "missing"):
        with pytest.raises(DataError, match=f"{name}.gguf: is missing, cut off or no GGUF file"):
            open_tokenizer(tmp_path / f"{name}.gguf")


def test_tasks_are_measured_with_it(tmp_path, monkeypatch):
    """`tasks table` counts with the file what it counts with the folder of the same tokenizer."""
    monkeypatch.chdir(tmp_path)
    known = byte_tokenizer()
    known.chat_template = LLAMA_CHAT
    known.save_pretrained("folder")
    write(tmp_path / "m.gguf", known)
    (tmp_path / "a.csv").write_text('text,label\n"To be or not to be",p\nThe end.,q\n')
    given = ("table", "t", "--corpus", "train=a.csv", "--json", "--overwrite", "--out", "d")
    found = []
    for tokenizer in ("m.gguf", "folder"):
        done = CliRunner().invoke(app, [*given, "--tokenizer", tokenizer], catch_exceptions=False)
        (about,) = json.loads(done.stdout)
        assert about["length"] == f"tokens of {tokenizer}"
        found.append(about["splits"]["train"])
    assert found[0] == found[1]
    ids = known("To be or not to be", add_special_tokens=False)["input_ids"]
    assert found[0]["length"]["max"] >= len(ids)
    with pytest.raises(DataError, match="nowhere: no tokenizer can be read there"):
        CliRunner().invoke(app, [*given, "--tokenizer", "nowhere"], catch_exceptions=False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tokens": []}, "tokens is missing or not"),
        ({"tokens": ["a", "a"]}, "tokens is missing or not"),
        ({"tokens": 7}, "tokens is missing or not"),
        ({"merges": ["a"]}, "merges is missing or not"),
        ({"merges": None}, "merges is missing or not"),
        ({"merges": ["neither nor"]}, "its tokenizer cannot be made"),
        ({"token_type": [1]}, "token_type is missing or not"),
        ({"bos_token_id": 10**6}, "bos_token_id is missing or not"),
        ({"eos_token_id": -1}, "eos_token_id is missing or not"),
        ({"eos_token_id": "x"}, "eos_token_id is missing or not"),
        ({"chat_template": 7}, "chat_template is missing or not"),
        ({"model": 7}, "of the kind 7"),
        ({"pre": ["gpt-2"]}, r"\(\['gpt-2'\]\), expected"),
    ],
)
def test_fields_that_make_no_tokenizer(tmp_path, monkeypatch, change, said):
    file = write(tmp_path / "m.gguf", byte_tokenizer())
    known = gguf_tokenizer.open_gguf(file, DataError)
    fields = dict(known.fields)
    for name, value in change.items():
        inner = "" if name == "chat_template" else "ggml."
        fields[f"tokenizer.{inner}{name}"] = value
    other = dataclasses.replace(known, fields=fields)
    monkeypatch.setattr(gguf_tokenizer, "open_gguf", lambda *_: other)
    with pytest.raises(DataError, match=said) as found:
        open_tokenizer(file)
    assert "\n" not in str(found.value)
