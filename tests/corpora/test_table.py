import json

import pytest

from jaxtask.corpora import build_table
from jaxtask.errors import TaskError

TSV = 'Quality\tID\t#1 String\t#2 String\n1\t7\tHe said "no .\tHe "refused" .\n0\t8\tA\tB\n'
PAIR = {"text": "#1 String", "text_pair": "#2 String", "label": "Quality"}


@pytest.fixture
def save(tmp_path):
    def _save(name, text):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return _save


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_pairs_from_tsv(save, tmp_path):
    """As MRPC comes: a byte-order mark, quotes that mean nothing."""
    train, dev = save("a.tsv", "\ufeff" + TSV), save("b.tsv", TSV)
    about = build_table("mrpc", {"train": train, "dev": dev}, tmp_path / "data", **PAIR)
    assert (about["kind"], about["labels"]) == ("classification", ["0", "1"])
    for split, file in (("train", train), ("dev", dev)):
        first, second = lines(tmp_path / "data" / "mrpc" / f"{split}.jsonl")
        assert first == {
            "text": 'He said "no .',
            "text_pair": 'He "refused" .',
            "label": "1",
            "document_id": f"{file.name}, line 2",
            "part": 0,
            "window": None,
        }
        assert second["label"] == "0"
    assert json.loads((tmp_path / "data" / "mrpc" / "task.json").read_text()) == about


def test_csv_with_quotes_and_lines_inside(save, tmp_path):
    train = save("a.csv", 'text,label\n"one, ""two""\nthree",x\nfour,y\n')
    about = build_table("t", {"train": train}, tmp_path / "out")
    assert [x["text"] for x in lines(tmp_path / "out/t/train.jsonl")] == [
        'one, "two"\nthree',
        "four",
    ]
    assert about["labels"] == ["x", "y"]


@pytest.mark.parametrize(
    ("labels", "kind", "known", "written"),
    [
        (["3.5", "2.0", "1"], "regression", None, [3.5, 2.0, 1.0]),
        ([3.5, 2.0], "regression", None, [3.5, 2.0]),
        ([10, 2, 1], "classification", ["1", "2", "10"], ["10", "2", "1"]),
        (["b", "a", "1.5"], "classification", ["1.5", "a", "b"], ["b", "a", "1.5"]),
        ([1, "1", 1.0, True, "true", 0], "classification", ["0", "1", "true"],
         ["1", "1", "1", "true", "true", "0"]),
        ([-0.0, 0, 2.5, "x"], "classification", ["0", "2.5", "x"], ["0", "0", "2.5", "x"]),
        (["nan", "inf", "1.5"], "classification", ["1.5", "inf", "nan"], ["nan", "inf", "1.5"]),
        (["1_000", "2.5"], "classification", ["1_000", "2.5"], ["1_000", "2.5"]),
        (["\u0661.5", "2.5"], "classification", ["2.5", "\u0661.5"], ["\u0661.5", "2.5"]),
        ([True, 2.5], "classification", ["2.5", "true"], ["true", "2.5"]),
        ([" 1e-3", "+.5", "-2."], "regression", None, [0.001, 0.5, -2.0]),
        ([1.0, 0.0], "regression", None, [1.0, 0.0]),
    ],
)  # fmt: skip
def test_numbers_and_classes(save, tmp_path, labels, kind, known, written):
    rows = "".join(json.dumps({"text": "x", "label": y}) + "\n" for y in labels)
    about = build_table("t", {"train": save("a.jsonl", rows)}, tmp_path / "out")
    assert (about["kind"], about["labels"]) == (kind, known)
    assert [x["label"] for x in lines(tmp_path / "out/t/train.jsonl")] == written


def test_asked_for(save, tmp_path):
    rows = save("a.jsonl", '{"text": "x", "label": 1}\n{"text": "y", "label": 2}\n')
    about = build_table("t", {"train": rows}, tmp_path, kind="regression")
    assert (about["kind"], about["labels"]) == ("regression", None)
    for n, labels in enumerate((["2", "1", "0"], [2, 1.0, 0])):
        about = build_table(f"u{n}", {"train": rows}, tmp_path, labels=labels)
        assert about["labels"] == ["2", "1", "0"]


def test_rows_without_text_are_dropped_and_counted(save, tmp_path):
    texts = ["a", " \t\u00a0", None, "", float("nan"), "b"]
    rows = "".join(json.dumps({"s": x, "t": "z", "label": y}) + "\n" for y, x in enumerate(texts))
    train = {"train": save("a.jsonl", rows)}
    for options in ({"text": "s"}, {"text": "t", "text_pair": "s"}):
        about = build_table("t", train, tmp_path, **options, overwrite=True)
        counts = about["splits"]["train"]
        assert (counts["documents"], counts["examples"]) == (6, 2)
        assert counts["dropped"] == {"nothing in 's' (first: a.jsonl, line 2)": 4}
        assert about["labels"] == ["0", "5"]


@pytest.mark.parametrize("label", ["1_000", "1,5", "0x1p3", "infinity", True, "1e39", 10**40, [1]])
def test_scores_that_are_no_numbers(save, tmp_path, label):
    rows = "".join(json.dumps({"text": "a", "label": x}) + "\n" for x in (1.5, label))
    with pytest.raises(
        TaskError, match=r"a\.jsonl, line 2: .* 'label' holds .*, expected a finite"
    ):
        build_table("t", {"train": save("a.jsonl", rows)}, tmp_path, kind="regression")


def test_long_rows_are_dropped_and_counted(save, tmp_path):
    rows = save("a.csv", "text,label\na b c,x\na,y\na b,x\n")
    about = build_table("t", {"train": rows}, tmp_path, max_len=2)
    counts = about["splits"]["train"]
    assert (counts["examples"], counts["length"]["max"]) == (2, 2)
    assert counts["dropped"] == {"longer than 2 words (first: a.csv, line 2)": 1}
    with pytest.raises(TaskError, match="'u' has no example in train"):
        build_table("u", {"train": rows}, tmp_path, max_len=0)


@pytest.mark.parametrize(
    ("name", "text", "options", "what"),
    [
        ("a.csv", "text,label\na,x\nb,y\n", {"labels": ["x", "z"]}, r"line 3: .* 'y' is out"),
        ("a.csv", "text,label\na,x\n", {}, r"a label set of \['x'\]"),
        ("a.csv", "text,label\na\n", {}, "a.csv, line 2: 1 columns, the header has 2"),
        ("a.csv", 'text,label\n"a,x\n', {}, "a.csv, line 2: unexpected end"),
        ("a.csv", "text,label\n,x\n", {}, r"1 dropped: nothing in 'text' \(first: a.csv, line 2"),
        ("a.csv", "text,label\na,\n", {}, "a.csv, line 2: the column 'label' is empty"),
        ("a.csv", "text,label\na,x\n", {"text_pair": "b"}, r"a.csv, line 2: no column 'b' \(there"),
        ("a.csv", "text,label\n", {}, "has no example in train"),
        ("a.jsonl", '{"text": "a", "label": null}\n', {}, "line 1: the column 'label' is empty"),
        ("a.jsonl", '\n{"text"\n', {}, "a.jsonl, line 2: is not valid JSON"),
        ("a.jsonl", "[]\n", {}, "has no example in train"),
        ("a.jsonl", "[[]]\n", {}, "a.jsonl, row 1: expected an object"),
        ("a.jsonl", '{"text": "a", "label": "big"}\n', {"kind": "regression"}, "text .'big'"),
        ("a.csv", "text,label\na,1.5\nb,nan\n", {"kind": "regression"}, "line 3: .* text .'nan'"),
        ("a.csv", "text,label\na,1.5\n", {"kind": "regression", "labels": ["a"]}, "no label set"),
        ("a.txt", "text", {}, r"expected a name in .jsonl, .json, .csv, .tsv or .parquet"),
    ],
)  # fmt: skip
def test_what_is_refused(save, tmp_path, name, text, options, what):
    with pytest.raises(TaskError, match=what):
        build_table("t", {"train": save(name, text)}, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", ["NaN", "1e400", "[1]", "{}", '"\\ud800"'])
@pytest.mark.parametrize("column", ["text", "label"])
def test_values_that_are_no_text(save, tmp_path, column, value):
    row = {"text": '"a"', "label": '"x"', column: value}
    row = "{" + ", ".join(f'"{key}": {own}' for key, own in row.items()) + "}\n"
    with pytest.raises(TaskError, match=r"a\.jsonl, line 1"):
        build_table("t", {"train": save("a.jsonl", row)}, tmp_path / "out")


def test_a_label_of_dev_outside_the_set(save, tmp_path):
    train, dev = save("a.csv", "text,label\na,x\nb,y\n"), save("b.csv", "text,label\na,z\n")
    with pytest.raises(TaskError, match=r"b\.csv, line 2: the label 'z' is outside the set"):
        build_table("t", {"train": train, "dev": dev}, tmp_path / "out")


def test_names_and_splits(save, tmp_path):
    file = save("a.csv", "text,label\na,x\nb,y\n")
    with pytest.raises(TaskError, match="no corpus to train on"):
        build_table("t", {"dev": file}, tmp_path)
    with pytest.raises(TaskError, match=r"task name '\.\./t'"):
        build_table("../t", {"train": file}, tmp_path)
