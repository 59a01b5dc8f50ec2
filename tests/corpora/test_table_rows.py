import gzip
import json

import pytest

from jaxtask.corpora import table_rows
from jaxtask.errors import CorpusError, TaskError

ROWS = [{"text": 'a, [b] {c} "d\\\n'}, {}, {"text": "\u00e9\U0001f600", "deep": {"x": [{}, None]}}]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.json.gz"])
@pytest.mark.parametrize("options", [{}, {"indent": 2}, {"separators": (",", ":")}])
def test_an_array(tmp_path, name, options):
    text = "\ufeff \r\n" + json.dumps(ROWS, ensure_ascii=False, **options) + "\n\t"
    content = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    found = list(table_rows.table_rows(tmp_path / name))
    assert found == [(f"row {n}", row) for n, row in enumerate(ROWS, 1)]


def test_lines_in_a_file_named_json(tmp_path):
    (tmp_path / "a.json").write_text("\n" + "\n".join(map(json.dumps, ROWS)))
    found = list(table_rows.table_rows(tmp_path / "a.json"))
    assert found == [(f"line {n}", row) for n, row in enumerate(ROWS, 2)]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[", "is not valid JSON"),
        ('[{"a": 1}', "is not valid JSON: Expecting ',' delimiter: line 1 column 10"),
        ('[{"a": 1},\n]', "is not valid JSON: .*line"),
        ('[{"a": 1}, [2]]', "row 2: found a list, expected an object"),
        ('[{"a": 1}, null]', "row 2: found nothing, expected an object"),
        ('[{"a": 1}]\n{}', "is not valid JSON: Extra data: line 2"),
        ('[{"a": 1, "a": 2}]', "is not valid JSON: the key 'a' is given twice"),
        ('[{"a": "\\ud800"}]', "is not valid JSON: it holds .* half a character"),
        ('[{"a": ' + "[" * 10**5, "is not valid JSON: it is nested more than"),
        ('[{"a": ' + "1" * 5000 + "}]", "is not valid JSON: it holds a number of thousands"),
    ],
)
def test_broken_arrays(tmp_path, text, what):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(TaskError, match=what) as found:
        list(table_rows.table_rows(path))
    assert str(found.value).startswith(str(path))
    assert "\n" not in str(found.value)


def test_arrays_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(table_rows, "MAX_ARRAY", 1000)
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"a": "x" * 300}] * 4, indent=0))
    with pytest.raises(TaskError, match=r"over 1,000 characters; JSON lines, with"):
        list(table_rows.table_rows(path))
    path.write_text(json.dumps([{"a": "x" * 2000}]))
    with pytest.raises(CorpusError, match=r"line 1: has over 1,000 characters"):
        list(table_rows.table_rows(path))
