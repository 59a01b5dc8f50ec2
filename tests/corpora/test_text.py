import json

import pytest

from jaxtask.corpora import build_text
from jaxtask.errors import JaxtaskError, TaskError
from jaxtask.finetune.data.task_data import read_task


@pytest.fixture
def save(tmp_path):
    def _save(name, rows):
        text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return _save


@pytest.fixture
def pairs(save, tmp_path):
    """Prompts and targets that come of rows."""

    def _pairs(rows, name="a.jsonl", **options):
        out = tmp_path / "out"
        about = build_text("t", {"train": save(name, rows)}, out, overwrite=True, **options)
        return [(line["text"], line["target"]) for line in lines(out, "train")], about

    return _pairs


def lines(out, split):
    return [json.loads(x) for x in (out / "t" / f"{split}.jsonl").read_text().splitlines()]


def said(*turns, role="role", content="content"):
    return [{role: who, content: what} for who, what in turns]


def rows(count):
    return [{"prompt": f"p{n}", "completion": f"c{n}"} for n in range(count)]


def test_a_line(save, tmp_path):
    train = save("a.jsonl", [{"prompt": " p\n", "completion": "c ", "id": 1}])
    about = build_text("t", {"train": train, "valid": save("b.jsonl", rows(2))}, tmp_path / "out")
    (line,) = lines(tmp_path / "out", "train")
    assert line == {
        "instruction": "",
        "text": " p\n",
        "target": "c ",
        "document_id": "a.jsonl, line 1",
        "part": 0,
        "window": None,
    }
    assert len(lines(tmp_path / "out", "dev")) == 2
    assert (about["kind"], about["labels"]) == ("text", None)
    assert json.loads((tmp_path / "out/t/task.json").read_text()) == about


def test_training_reads_it(save, tmp_path):
    build_text("t", {"train": save("a.jsonl", rows(3))}, tmp_path / "out", dev_share=0.3)
    read = read_task(tmp_path / "out/t")
    found = [line for split in ("train", "dev") for line in read.splits[split]]
    assert sorted((x.instruction, x.text, x.target) for x in found) == [
        ("", f"p{n}", f"c{n}") for n in range(3)
    ]


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("a.jsonl", '{"q": "x, y", "a": "z"}\n\n{"q": "v", "a": "w", "more": [1]}\n'),
        ("a.json", '[\n {"q": "x, y", "a": "z"},\n {"q": "v", "a": "w"}\n]\n'),
        ("a.csv", 'q,id,a\n"x, y",1,z\nv,2,w\n'),
        ("a.tsv", "a\tq\nz\tx, y\nw\tv\n"),
    ],
)
def test_columns_by_name(pairs, name, rows):
    found, about = pairs(rows, name, prompt="q", target="a")
    assert found == [("x, y", "z"), ("v", "w")]
    assert about["summary"] == "Rows with the columns q, a"


def test_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install pyarrow")
    from pyarrow import parquet

    turns = said(("user", "x"), ("assistant", "y"))
    parquet.write_table(pa.table({"messages": [turns, None]}), tmp_path / "a.parquet")
    about = build_text("t", {"train": tmp_path / "a.parquet"}, tmp_path / "out")
    assert lines(tmp_path / "out", "train")[0]["document_id"] == "a.parquet, row 1"
    dropped = about["splits"]["train"]["dropped"]
    assert dropped == {"nothing in 'messages' (first: a.parquet, row 2)": 1}


@pytest.mark.parametrize(
    ("row", "prompt", "target"),
    [
        ({"instruction": "a", "input": "", "output": "b", "text": "c"}, "a", "b"),
        ({"instruction": "a", "input": " b\n", "output": "c", "history": []}, "a\n\n b\n", "c"),
        ({"instruction": "a", "output": "b", "system": "s", "input": None}, "s\n\na", "b"),
        ({"prompt": "a", "completion": 5}, "a", "5"),
        ({"prompt": "a", "completion": 5.0}, "a", "5"),
        ({"prompt": "a", "completion": False}, "a", "false"),
        ({"messages": said(("user", "a"), ("assistant", "b")), "prompt": "c"}, "a", "b"),
        (
            {"messages": said(("system", "s"), ("User", "a"), ("assistant", " b"), ("user", "c"))},
            "s\n\na",
            " b",
        ),
        (
            {
                "system": "s",
                "conversations": said(("human", "a"), ("gpt", "b"), role="from", content="value"),
            },
            "s\n\na",
            "b",
        ),
        (
            {"messages": said(("user", [{"type": "text", "text": "a"}, "b"]), ("model", "c"))},
            "ab",
            "c",
        ),
    ],
)
def test_shapes(pairs, row, prompt, target):
    assert pairs([row])[0] == [(prompt, target)]


def test_every_answer_of_a_conversation(pairs, tmp_path):
    turns = said(
        ("assistant", "Hello."),
        ("user", "Weather?"),
        ("assistant", None),
        ("tool", "4 C"),
        ("assistant", "Cold."),
        ("user", " "),
        ("user", "Sure?"),
        ("assistant", "Yes."),
    )
    found, about = pairs([{"messages": turns}])
    begin = "Assistant: Hello.\n\nUser: Weather?\n\nTool: 4 C"
    assert found == [(begin, "Cold."), (f"{begin}\n\nAssistant: Cold.\n\nUser: Sure?", "Yes.")]
    assert about["splits"]["train"]["dropped"] == {
        "an answer without a question (first: a.jsonl, line 1)": 1,
        "an answer without text (first: a.jsonl, line 1)": 1,
    }
    assert [line["part"] for line in lines(tmp_path / "out", "train")] == [2, 3]


def test_what_is_no_text_ends_a_conversation(pairs):
    image = [{"type": "image_url", "image_url": {"url": "x"}}]
    turns = said(("user", "a"), ("assistant", "b"), ("user", image), ("assistant", "c"))
    found, about = pairs([{"messages": turns}])
    assert found == [("a", "b")]
    assert list(about["splits"]["train"]["dropped"].values()) == [1]


def test_drops(save, tmp_path):
    given = [("a", "b"), ("", "b"), ("a", None), (" \t\u00a0", ""), ("a", float("nan"))]
    given += [("a", "b"), ("a", "c"), ("a b c d", "e"), (" a", "b")]
    train = save("a.jsonl", [{"prompt": p, "completion": c} for p, c in given])
    dev = save("b.jsonl", [*rows(1), {"prompt": "a", "completion": "b"}])
    about = build_text("t", {"train": train, "eval": dev}, tmp_path / "out", max_len=4)
    kept = [(line["text"], line["target"]) for line in lines(tmp_path / "out", "train")]
    assert kept == [("a", "b"), ("a", "c"), (" a", "b")]
    counts = about["splits"]["train"]
    assert (counts["documents"], counts["examples"], counts["length"]["max"]) == (9, 3, 2)
    assert counts["dropped"] == {
        "nothing in 'prompt' (first: a.jsonl, line 2)": 2,
        "nothing in 'completion' (first: a.jsonl, line 3)": 2,
        "prompt and target of an earlier example (first: a.jsonl, line 6)": 1,
        "longer than 4 words (first: a.jsonl, line 8)": 1,
    }
    assert about["splits"]["dev"]["examples"] == 2


def test_length_counts_the_instruction(pairs):
    found, about = pairs(rows(1), instruction=" Say it.\n", max_len=6)
    assert (about["instruction"], len(found)) == ("Say it.", 1)
    assert about["splits"]["train"]["length"]["max"] == 6  # Say it. ### Document: p0 / c0
    with pytest.raises(TaskError, match=r"1 dropped: longer than 5 words"):
        pairs(rows(1), instruction="Say it.", max_len=5)


@pytest.mark.parametrize(("share", "expected"), [(0.1, 4), (0.01, 1), (0.5, 20), (0.99, 39)])
def test_dev_share(save, tmp_path, share, expected):
    def built(name, given):
        files = {"train": save(name, given), "test": save("test.jsonl", rows(1))}
        return build_text("t", files, tmp_path / "out", dev_share=share, overwrite=True)

    about = built("a.jsonl", rows(40))
    assert (about["dev_share"], list(about["splits"])) == (share, ["train", "dev", "test"])
    train, dev = ({x["text"] for x in lines(tmp_path / "out", s)} for s in ("train", "dev"))
    assert (len(train), len(dev)) == (40 - expected, expected)
    assert train | dev == {f"p{n}" for n in range(40)}
    for split in ("train", "dev"):
        counts = about["splits"][split]
        assert counts["documents"] == counts["examples"]
    built("b.jsonl", rows(40)[::-1])
    assert {x["text"] for x in lines(tmp_path / "out", "dev")} == dev


ASKED = [{"prompt": f"p{n % 10}", "completion": f"c{n}"} for n in range(50)]
TALKS = [
    {"messages": said(("user", f"p{n % 5}"), ("bot", "a"), ("user", "b"), ("bot", f"c{n}"))}
    for n in range(20)
]


@pytest.mark.parametrize(("given", "examples"), [(ASKED, 50), (TALKS, 25)])
def test_one_prompt_is_in_one_split(save, tmp_path, given, examples):
    """Conversations that begin alike share a part 0, of which the first is kept."""
    train = save("a.jsonl", given)
    about = build_text("t", {"train": train}, tmp_path / "out", dev_share=0.2)
    found = {split: lines(tmp_path / "out", split) for split in ("train", "dev")}
    assert {split: len(own) for split, own in found.items()} == {
        "train": examples - examples // 5,
        "dev": examples // 5,
    }
    began = [
        {line["text"].removeprefix("User: ").partition("\n")[0] for line in own}
        for own in found.values()
    ]
    assert not began[0] & began[1]
    assert sum(own["documents"] for own in about["splits"].values()) == len(given)


@pytest.mark.parametrize(
    ("rows", "options", "what"),
    [
        (
            [{"question": "a", "answer": "b"}],
            {},
            r"line 1: found the columns question, answer, expected .*, completion; .* prompt=",
        ),
        (
            [{"text": "a"}],
            {"prompt": "text", "target": "b"},
            r"line 1: no column 'b' \(there: text",
        ),
        (
            [{"p": "a", "t": "b"}, {"p": "a"}],
            {"prompt": "p", "target": "t"},
            "line 2: no column 't'",
        ),
        ([*rows(1), {"messages": []}], {}, "line 2: no column 'prompt'"),
        ([{"messages": []}, *rows(1)], {}, "line 2: no column 'messages'"),
        (
            [{"prompt": 5, "completion": "b"}],
            {},
            r"line 1: the column 'prompt' holds a number \(5\)",
        ),
        ([{"prompt": ["a"], "completion": "b"}], {}, "'prompt' holds a list, expected text"),
        ([{"prompt": "a", "completion": ["b"]}], {}, "'completion' holds a list, expected text or"),
        (
            [{"instruction": "a", "input": {}, "output": "b"}],
            {},
            "'input' holds an object, expected",
        ),
        (
            [{"instruction": "a", "output": "b", "history": [["c", "d"]]}],
            {},
            "line 1: the column 'history' holds a list, expected nothing",
        ),
        (
            [{"messages": "a"}],
            {},
            r"line 1: .*'messages' holds text \('a'\), expected a list of turns",
        ),
        (
            [{"messages": ["a"]}],
            {},
            r"line 1, turn 1 of 'messages': found text \('a'\), expected an",
        ),
        (
            [{"messages": said(("user", "a"), ("x", "a"))}],
            {},
            r"turn 2 of .*role is text \('x'\), exp",
        ),
        (
            [{"messages": [{"content": "a"}]}],
            {},
            "turn 1 of 'messages': the role is nothing, expected",
        ),
        (
            [{"messages": [{"role": "user", "text": "a"}]}],
            {},
            "found role, text, expected 'content'",
        ),
        (
            [{"messages": said(("user", 5))}],
            {},
            r"turn 1 of .*'content' holds a number \(5\), expected",
        ),
        ([{"conversations": said(("user", {}), content="value")}], {}, "'value' holds an object"),
        (
            [{"messages": said(("user", "a"))}],
            {},
            r"1 dropped: no turn of the assistant \(first: a.j",
        ),
        ([{"messages": []}], {}, r"1 dropped: nothing in 'messages' \(first: a.jsonl, line 1"),
        ([], {}, "has no rows"),
        (rows(2), {"prompt": "prompt"}, "give both prompt=COLUMN and target=COLUMN"),
        (rows(2), {"max_len": 0}, "max_len is 0, expected at least 1"),
        (rows(2), {"dev_share": 1.0}, r"dev_share is 1\.0, expected a share between 0 and 1"),
        (rows(2), {"dev_share": float("nan")}, "dev_share is nan"),
        (rows(1), {"dev_share": 0.5}, "two different prompts"),
        (rows(2), {"instruction": "\udcff"}, "instruction .* is not UTF-8"),
    ],
)
def test_what_is_refused(save, tmp_path, rows, options, what):
    with pytest.raises(JaxtaskError, match=what) as found:
        build_text("t", {"train": save("a.jsonl", rows)}, tmp_path / "out", **options)
    assert "\n" not in str(found.value)
    assert not (tmp_path / "out").exists()


def test_a_share_beside_a_dev_file(save, tmp_path):
    files = {"train": save("a.jsonl", rows(2)), "validation": save("b.jsonl", rows(2))}
    with pytest.raises(TaskError, match="dev has a corpus of its own"):
        build_text("t", files, tmp_path / "out", dev_share=0.5)
    with pytest.raises(TaskError, match="two names: train, validation, eval"):
        build_text("t", files | {"eval": files["train"]}, tmp_path / "out")


def test_nothing_is_replaced_unasked(save, tmp_path):
    files = {"train": save("a.jsonl", rows(2))}
    build_text("t", files, tmp_path / "out")
    with pytest.raises(TaskError, match="exists; give overwrite=True"):
        build_text("t", files, tmp_path / "out")
    with pytest.raises(TaskError, match=r"task name '\.\./t'"):
        build_text("../t", files, tmp_path / "out")
