"""JSON and YAML of strangers: the value, or one line in bounded time."""

import os
import random
import time
from pathlib import Path

import pytest

from jaxtask.cli.analyze import read_groups
from jaxtask.errors import JaxtaskError, RecipeError
from jaxtask.finetune.recipe.files import read_recipe, read_value
from jaxtask.reproduce.experiment import read_experiment
from jaxtask.text_files import (
    MAX_YAML_BYTES,
    parse_json,
    parse_yaml,
    read_json,
    read_object,
    read_text,
    read_yaml,
)


def lists(name, part):
    """Thirty anchors, each of ten of the one before."""
    return "".join(
        f"{name}{n}: &{name}{n} {part(','.join([f'*{name}{n - 1}'] * 10), n)}\n"
        for n in range(1, 30)
    )


REFUSED = {
    "laughs": ("l0: &l0 [ha]\n" + lists("l", lambda all, n: f"[{all}]"), "aliases"),
    "merged laughs": (
        "m0: &m0 {a: 1}\n" + lists("m", lambda all, n: f"{{<<: [{all}], a{n}: 1}}"),
        "aliases",
    ),
    "a list within itself": ("a: &a [*a]", "an alias .* contains itself"),
    "a mapping within itself": ("&a {b: {c: *a}}", "an alias .* contains itself"),
    "merged with itself": ("&a\n<<: *a\nb: 1", "an alias .* contains itself"),
    "deep lists": ("[" * 50_000, "nested more than 100 deep"),
    "deep mappings": ("{a: " * 50_000, "nested more than 100 deep"),
    "deep blocks": ("\n".join(" " * n + "a:" for n in range(300)), "nested more than 100 deep"),
    "deep dashes": ("- " * 50_000, "nested more than 100 deep"),
    "deep questions": ("? " * 50_000, "nested more than 100 deep"),
    "many": ("[" + "1," * 50_001 + "]", "over 50,000 values"),
    "long": ("#" * (MAX_YAML_BYTES + 1), "bytes"),
    "a list as a key": ("[a]: b", "line 1, column 1: a key is no plain value"),
    "a mapping as a key": ("x: 1\n? {a: 1}\n: b", "line 2, column 3: a key is no plain value"),
    "a tag as a key": ("!!seq a: b", "a key is no plain value"),
    "a key twice": ("a: 1\nb: 2\na: 3", "line 3, column 1: the key 'a' is given twice"),
    "null twice": ("~: 1\nnull: 2", "given twice"),
    "one by value twice": ("1: a\n0x1: b", "given twice"),
    "two documents": ("a: 1\n---\nb: 2", "single document"),
    "an object": ("!!python/object/apply:os.system [ls]", "could not determine a constructor"),
    "a name": ("!!python/name:os.system", "could not determine a constructor"),
    "a set": ("!!set {a, b}", "could not determine a constructor"),
    "a date by tag": ("!!timestamp 2024-13-99", "could not determine a constructor"),
    "bytes": ("!!binary aGk=", "could not determine a constructor"),
    "a number by tag": ("!!int abc", "'abc' is no number"),
    "a list as a mapping": ("!!map [1]", "expected names with values"),
    "digits": ("a: " + "9" * 5000, "a number of 5,000 characters"),
    "hexadecimal digits": ("a: 0x" + "f" * 350, "above 1e308"),
    "no float64": ("a: 1" + "0" * 309, "above 1e308"),
    "NUL": ('"a\\0b"', "NUL"),
    "half of a surrogate pair": ('"\\ud800"', "half of a surrogate pair"),
    "no character": ('"\\UFFFFFFFF"', "is not valid YAML"),
    "a control character": ("a: \x07", "not allowed"),
    "no alias": ("a: *" + "x" * 1000, "undefined alias"),
    "a merge of nothing": ("<<: 3", "merging"),
    "a version": ("%YAML 9.9\n--- a", "incompatible"),
    "an open list": ("a: [" + "x\n" * 3000, "line 3001"),
}


def refused(read, match):
    start = time.process_time()
    with pytest.raises(JaxtaskError, match=match) as caught:
        read()
    assert time.process_time() - start < 60
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 400
    return message


@pytest.mark.parametrize("name", REFUSED)
def test_yaml_that_is_refused(tmp_path, name):
    text, match = REFUSED[name]
    file = tmp_path / "f.yaml"
    file.write_text(text)
    message = refused(lambda: read_yaml(file, JaxtaskError), match)
    assert message.startswith(str(file))


@pytest.mark.parametrize("name", ["laughs", "deep lists", "two documents", "a key twice", "digits"])
def test_every_reader_of_yaml_is_that_reader(tmp_path, name):
    text, match = REFUSED[name]
    file = tmp_path / "f.yaml"
    file.write_text(text)
    for read in (read_recipe, read_groups, read_experiment):
        source = file if read is read_groups else str(file)
        assert str(file) in refused(lambda read=read, source=source: read(source), match)
    refused(lambda: read_value(text), match)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4e-5", 4e-5),
        ("1e5", 1e5),
        ("-.5", -0.5),
        ("1.", 1.0),
        ("+12", 12),
        ("0x1F", 31),
        ("0o17", 15),
        # Numbers, truths and dates of YAML 1.1, where people mean texts.
        *((text, text) for text in ("010", "007", "1:30", "12:30:45", "2024-01-01", "2024-13-99")),
        *((text, text) for text in ("no", "on", "yes", "1_000", "<<", "=", "1e", "0x", "--1")),
        ("true", True),
        ("~", None),
        ("", None),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("é 😀", "é 😀"),
        ("-.inf", float("-inf")),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
        ("a: &x {r: 1, s: 2}\nb: {<<: *x, r: 3}", {"a": {"r": 1, "s": 2}, "b": {"r": 3, "s": 2}}),
        ("a: {<<: [{r: 1}, {r: 2, s: 3}]}", {"a": {"r": 1, "s": 3}}),
        ("\ufeffa: 1", {"a": 1}),
        ("- a\r\n- b\r\n", ["a", "b"]),
    ],
)
def test_yaml_that_is_read(tmp_path, text, value):
    (tmp_path / "f.yaml").write_bytes(text.encode())
    found = read_yaml(tmp_path / "f.yaml", JaxtaskError)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("read", [read_yaml, read_json, read_text])
def test_bytes_that_are_no_text(tmp_path, read):
    file = tmp_path / "f"
    for content, match in (
        ("a: 1".encode("utf-16"), "is UTF-16, expected UTF-8"),
        ("[1]".encode("utf-16-be"), "holds a NUL character at 0"),
        ("[1]".encode("utf-16-le"), "holds a NUL character at 1"),
        ("[1]".encode("utf-32-be"), "NUL"),
        (b"caf\xe9", "is not UTF-8, expected UTF-8 text .byte 0xe9 at 3"),
        (b"\x80\x02}q\x00.", "not UTF-8"),
    ):
        file.write_bytes(content)
        refused(lambda: read(file, JaxtaskError), match)
    assert read(__file__, JaxtaskError) if read is read_text else True


def test_what_is_no_file(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "big").write_bytes(bytes(100))
    for path, match in (
        (tmp_path, "is not a regular file|directory"),
        (tmp_path / "none", "no such file"),
        (tmp_path / "pipe", "is not a regular file"),
        (Path("/dev/zero"), "is not a regular file"),
        (tmp_path / "loop", "cannot be read"),
        (tmp_path / ("x" * 300), "cannot be read"),
        (Path("a\0b"), "is not the path of a file"),
        (tmp_path / "big" / "below", "cannot be read"),
    ):
        with pytest.raises(JaxtaskError, match=match) as caught:
            read_text(path, JaxtaskError)
        assert "\n" not in str(caught.value)
    refused(lambda: read_text(tmp_path / "big", JaxtaskError, limit=99), "has over 99 bytes")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[" + "9" * 5000 + "]", "thousands of digits"),
        ("[1" + "0" * 400 + "]", "above 1e308"),
        ("[-1" + "0" * 400 + "]", "above 1e308"),
        ("[" * 100_000, "nested more than 100 deep"),
        ('{"a":' * 100_000, "nested more than 100 deep"),
        ("[" * 101 + "]" * 101, "nested more than 100 deep"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' is given twice"),
        ("{" + ",".join(f'"k{n}": 1' for n in range(50_000)) + ', "k49999": 2}', "'k49999' is"),
        ('["\\ud800"]', "half of a surrogate pair"),
        ('{"\\uDFFF": 1}', "half of a surrogate pair"),
        ("", "Expecting value"),
        ("{} {}", "Extra data"),
        ("{'a': 1}", "enclosed in double quotes"),
        ("[1\n,\n" * 1000 + "1" + "]" * 1000, "nested more than 100 deep"),
        (b'{"a": "\xe9"}', "not UTF-8"),
        ("[1]".encode("utf-16"), "UTF-16"),
        (b"[\0]", "NUL"),
    ],
)
def test_json_that_is_refused(text, match):
    message = refused(lambda: parse_json(text, "f.json, line 3", JaxtaskError), match)
    assert message.startswith("f.json, line 3: ")


def test_json_that_is_read():
    assert parse_json(b"\xef\xbb\xbf{}", "f", JaxtaskError) == {}
    assert parse_json("\ufeff[]", "f", JaxtaskError) == []
    assert parse_json('["\\ud83d\\ude00", 1e400]', "f", JaxtaskError) == ["😀", float("inf")]
    assert parse_json("[" * 99 + "]" * 99, "f", JaxtaskError)
    big = 2**1000
    assert parse_json(f"[{big}]", "f", JaxtaskError) == [big]


@pytest.mark.parametrize("text", ["[]", "3", '"x"', "null", "true"])
def test_what_is_no_object(tmp_path, text):
    (tmp_path / "f.json").write_text(text)
    refused(lambda: read_object(tmp_path / "f.json", JaxtaskError), "expected a JSON object")


def test_a_wrong_setting_is_cut_short(tmp_path):
    values = "x" * 5000
    for text in (f"base: [{values}]", f"base: b\n{values}: 1", f"- {values}", f"lora: {values}"):
        (tmp_path / "f.yaml").write_text(text)
        with pytest.raises(RecipeError) as caught:
            read_recipe(tmp_path / "f.yaml")
        assert len(str(caught.value)) < 1500
        assert "\n" not in str(caught.value)


TOKENS = [
    *"[]{},:-?&*!|>'\"%@`#\\ \n\t019axeU.~<=+_",
    *("<<: ", "*a", "&a ", "!!int ", "!!map ", "!!seq ", "!!null ", "- ", ": ", "? ", "---\n"),
    *("...\n", "%TAG ! x\n", "\\x41", "\\U99999999", "\\ud800", "\\0", "|2-\n", ">+\n", "!!set "),
    *("!<tag:yaml.org,2002:value> ", "= ", "\ufeff", "\x85", "\u2028", "2024-13-99", "1e999", "é"),
]


def test_any_text_is_a_value_or_one_line():
    chance = random.Random(0)
    for _ in range(1500):
        text = "".join(chance.choices(TOKENS, k=chance.randint(1, 30)))
        for parse in (parse_yaml, parse_json):
            message = ""
            try:
                parse(text, "f", JaxtaskError)
            except JaxtaskError as error:
                message = str(error)
            assert "\n" not in message
            assert len(message) < 300
