import gzip
import json

import pytest

from jaxtask.corpora import files
from jaxtask.corpora.table_rows import table_rows
from jaxtask.errors import JaxtaskError, TaskError

ROWS = [
    {"text": 'a, [b] {c} "d\\', "n": 1},
    {"text": "\u00e9\U0001f600\n" * 40_000, "deep": {"x": [{}, [], None]}},
    {},
    {"text": "x" * 200_000},
    *({"text": "y" * n} for n in range(50)),
]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.json.gz"])
@pytest.mark.parametrize("options", [{}, {"indent": 2}, {"separators": (",", ":")}])
def test_a_json_array_is_read_as_lines_are(tmp_path, name, options):
    path = tmp_path / name
    text = " \r\n" + json.dumps(ROWS, ensure_ascii=False, **options) + "\n\t"
    content = b"\xef\xbb\xbf" + text.encode()
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert list(table_rows(path)) == [(f"row {n}", row) for n, row in enumerate(ROWS, 1)]


def test_blocks_may_end_anywhere(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    rows = [{"a": 1.5e-3, "b": [True, None, "\u00e9\\n"]}, {}, {"c": "\U0001f600"}]
    path.write_text(json.dumps(rows, indent=1))
    for block in range(1, 40):
        monkeypatch.setattr(files, "_BLOCK", block)
        assert [row for _, row in table_rows(path)] == rows


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[", "row 1: expected an object"),
        ('[{"a": 1}', "row 2: is not valid JSON: expected ',' or ']' before it"),
        ('[{"a": 1} {"a": 1}]', "row 2: is not valid JSON: expected ',' or ']' before it"),
        ('[{"a": 1},]', "row 2: expected an object"),
        ('[{"a": 1}, [2]]', "row 2: expected an object"),
        ('[{"a": 1}, null]', "row 2: expected an object"),
        ('[{"a": 1}] {}', "is not valid JSON: more follows after the array's end"),
        ('[{"a": 1}]]', "is not valid JSON: more follows after the array's end"),
        ('[{"a": 1}, {"a": tru}]', "row 2: is not valid JSON: Expecting value"),
        ('[{"a": "b', "row 1: is not valid JSON: Unterminated string"),
        ('[{"a" 1' + ' ' * 10**5 + '}]', "row 1: is not valid JSON: Expecting ':'"),
        ('[{"a": 1, "a": 2}]', "row 1: is not valid JSON: the key 'a' is given twice"),
        ('[{"a": "\\ud800"}]', "row 1: is not valid JSON: it holds .* half of a surrogate pair"),
        ('[{"a": ' + "[" * 10**5, "row 1: is not valid JSON: it is nested more than"),
        ('[{"a": ' + "1" * 5000 + "}]", "row 1: is not valid JSON: it holds a number of thousands"),
        ('[{"a": "' + "x" * 2000 + '"}]', "row 1: has over 1,000 characters"),
    ],
)  # fmt: skip
def test_broken_arrays(tmp_path, monkeypatch, text, what):
    monkeypatch.setattr(files, "_BLOCK", 64)
    if "over" in what:
        monkeypatch.setattr(files, "MAX_LINE", 1000)
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(TaskError, match=what) as found:
        list(table_rows(path))
    assert str(found.value).startswith(str(path))
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("text", ['{\n "data": []\n}', "\n1", '"a"', "x"])
def test_what_is_neither_lines_nor_array(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(TaskError, match=r"line \d: .*an object per line, or one array of them\)$"):
        list(table_rows(path))


def test_long_lines_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_LINE", 1000)
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"a": "x" * 2000}))
    with pytest.raises(JaxtaskError, match="line 1: has over 1,000 characters"):
        list(table_rows(path))
