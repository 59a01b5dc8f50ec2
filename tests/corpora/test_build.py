import errno
import json
from pathlib import Path

import pytest

from corpora.story import COLUMNS, story
from jaxtask.corpora import TASKS, Length, build_tasks, plain_prompt, read_documents, tokens_of
from jaxtask.corpora.prompt import NEUTRAL
from jaxtask.demo.grammar import write_corpus
from jaxtask.errors import CorpusError, TaskError
from real_data import real_data

LETTERS = Length("letters", len)
ALL = [n for n, t in TASKS.items() if t.kind == "text"]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A corpus of the grammar: paths by split, and summaries."""
    folder = tmp_path_factory.mktemp("small")
    write_corpus(folder, train=40, dev=20, test=12)
    return {
        s: [folder / f"{s}.conll"] for s in ("train", "dev", "test")
    }, folder / "summaries.jsonl"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def documents(paths):
    return {(d.id, d.part): d for path in paths for d in read_documents(path)}


@pytest.mark.slow
def test_lines_are_what_the_tasks_make(small, tmp_path):
    corpora, summaries = small
    built = build_tasks(ALL, corpora, tmp_path / "data", summaries=summaries)
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == sorted(ALL)
    known = {r["document_id"]: r["summary"] for r in lines(summaries)}
    for about in built:
        folder = tmp_path / "data" / about["task"]
        assert sorted(p.name for p in folder.iterdir()) == [
            *("dev.jsonl", "task.json", "test.jsonl", "train.jsonl")
        ]
        for split in corpora:
            given = documents(corpora[split])
            got = lines(folder / f"{split}.jsonl")
            assert len(got) == len(given) == about["splits"][split]["examples"]
            for line in got:
                d = given[line["document_id"], line["part"]]
                assert line["text"] == d.text
                assert line["window"] == [0, len(d.sentences)]
                if about["task"] == "sum":
                    assert line["target"] == known[d.id]
                else:
                    made = TASKS[about["task"]].function(d)
                    assert (line["instruction"], line["target"]) == made
                assert list(line) == [
                    *("instruction", "text", "target", "document_id", "part", "window")
                ]


@pytest.mark.parametrize(("unit", "max_len"), [("words", 70), ("letters", 420)])
def test_cut_at_a_sentence_so_that_all_fits(small, tmp_path, unit, max_len):
    corpora, _ = small
    names = [n for n in ALL if n != "sum"]
    length = {"length": LETTERS} if unit == "letters" else {}
    count = len if unit == "letters" else lambda text: len(text.split())

    def size(instruction, text, target):
        return count(plain_prompt(instruction, text)) + count(target)

    built = build_tasks(names, {"train": corpora["train"]}, tmp_path, max_len=max_len, **length)
    given = documents(corpora["train"])
    for about in built:
        got = lines(tmp_path / about["task"] / "train.jsonl")
        cut = 0
        for line in got:
            d = given[line["document_id"], line["part"]]
            first, last = line["window"]
            part = d.window(0, last)
            assert first == 0
            assert line["text"] == part.text
            assert TASKS[about["task"]].function(part) == (line["instruction"], line["target"])
            assert size(line["instruction"], line["text"], line["target"]) <= max_len
            if last < len(d.sentences):
                cut += 1
                longer = d.window(0, last + 1)
                instruction, target = TASKS[about["task"]].function(longer)
                assert size(instruction, longer.text, target) > max_len
        counts = about["splits"]["train"]
        assert 0 < cut == counts["cut"]
        assert counts["length"]["max"] <= max_len
        assert counts["examples"] + sum(counts["dropped"].values()) == counts["documents"] == 40


def test_first_sentence_too_long(small, tmp_path):
    """Dropped, counted and reported; an error where nothing is left."""
    corpora, _ = small
    (about,) = build_tasks(["first10-sent"], corpora, tmp_path, max_len=32)
    counts = about["splits"]["train"]
    given = documents(corpora["train"]).values()
    instruction, prompt = "keep the first 10% of the sentences.", plain_prompt
    short = [
        d for d in given
        if len(f"{prompt(instruction, d.sentences[0].text)} {d.sentences[0].text}".split()) <= 32
    ]  # fmt: skip
    assert 0 < counts["examples"] == len(short) < 40
    reason = "the first sentence, with instruction and target, exceeds 32 words"
    assert counts["dropped"] == {reason: 40 - len(short)}
    with pytest.raises(
        TaskError, match=r"no example in train \(40 documents; 40 dropped: the first sent"
    ):
        build_tasks(["ner"], corpora, tmp_path / "none", max_len=12)
    assert not (tmp_path / "none").exists()


def test_sentences_of_classification_tasks(small, tmp_path):
    corpora, _ = small
    built = build_tasks(["genre", "has-person"], corpora, tmp_path, max_len=12)
    genre, person = built
    assert genre["labels"] == ["art", "market", "news", "sport", "travel"]
    assert (genre["kind"], person["labels"]) == ("classification", ["no", "yes"])
    for split in corpora:
        given = documents(corpora[split])
        got = lines(tmp_path / "has-person" / f"{split}.jsonl")
        expected = {
            (d.id, n): any(e.label == "PERSON" for e in s.entities)
            for d in given.values()
            for n, s in enumerate(d.sentences)
            if len(s.text.split()) <= 12
        }
        assert {(x["document_id"], x["window"][0]): x["label"] == "yes" for x in got} == expected
        for line in got:
            n, end = line["window"]
            assert end == n + 1
            assert line["text"] == given[line["document_id"], 0].sentences[n].text
        for line in lines(tmp_path / "genre" / f"{split}.jsonl"):
            assert line["label"] == line["document_id"].split("/")[1]
            assert len(line["text"].split()) <= 12


def test_neutral_prompt(small, tmp_path):
    corpora, _ = small
    build_tasks(["ner", "srl"], corpora, tmp_path, prompt="neutral")
    build_tasks(["ner"], corpora, tmp_path)
    own, neutral = (lines(tmp_path / n / "dev.jsonl") for n in ("ner", "ner-neutral"))
    assert {x["instruction"] for x in neutral} == {NEUTRAL}
    assert [x["target"] for x in own] == [x["target"] for x in neutral]
    assert (tmp_path / "srl-neutral").is_dir()
    with pytest.raises(TaskError, match="'genre' has no prompt"):
        build_tasks(["genre"], corpora, tmp_path, prompt="neutral")


def test_plain_form():
    assert plain_prompt("build sentences.", "It is.") == (
        "In the following document, build sentences. ### Document: It is."
    )
    assert plain_prompt(NEUTRAL, "It is.") == f"{NEUTRAL} ### Document: It is."


def test_provenance(small, tmp_path):
    import hashlib

    corpora, summaries = small
    (about,) = build_tasks(["sum"], corpora, tmp_path, summaries=summaries, command="make it")
    assert json.loads((tmp_path / "sum" / "task.json").read_text()) == about
    (file,) = about["corpora"]["dev"]
    data = Path(file["path"]).read_bytes()
    assert file["sha256"] == hashlib.sha256(data).hexdigest()
    assert (file["bytes"], about["command"]) == (len(data), "make it")
    assert about["summaries"]["path"] == str(summaries)
    assert about["length"] == "words between spaces"


def test_layers_that_are_missing(tmp_path):
    """A document without the layer is dropped; all of them are an error that says so."""
    text = (
        COLUMNS.replace("(PERSON", "(")
        .replace("(GPE", "(")
        .replace("(DATE", "(")
        .replace("(MONEY", "(")
    )
    bare = text.replace("(*)", "*").replace("(*", "*").replace("part 002", "part 001")
    rows = [row.split(" ") for row in bare.split("\n")]
    bare = "\n".join(
        " ".join([*row[:10], "*", *row[11:]]) if len(row) > 11 else " ".join(row) for row in rows
    )
    (tmp_path / "a.conll").write_text(COLUMNS + bare)
    (tmp_path / "b.conll").write_text(bare)
    (about,) = build_tasks(["ner"], {"train": [tmp_path / "a.conll"]}, tmp_path / "out")
    assert about["splits"]["train"]["dropped"] == {"no named entities": 1}
    with pytest.raises(
        TaskError, match=r"'ner' has no example in train \(1 documents; 1 dropped: no n"
    ):
        build_tasks(["ner"], {"train": [tmp_path / "b.conll"]}, tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.fixture
def one(tmp_path):
    path = tmp_path / "one.conll"
    path.write_text(COLUMNS)
    return path


@pytest.mark.parametrize(
    ("names", "options", "what"),
    [
        (["ner"], {"corpora": {"dev": ["x"]}}, "no corpus to train on: give train=PATH"),
        (["ner"], {"corpora": {"train": ["x"], "final": ["x"]}}, "unknown split 'final'"),
        (["ner"], {"max_len": 0}, "max_len is 0"),
        (["ner"], {"prompt": "none"}, "unknown prompt 'none'"),
        (["sum"], {}, "'sum' needs summaries=FILE"),
        (["corf"], {}, "did you mean 'coref'"),
        (["genre"], {}, r"a label set of \['news'\], expected at least two"),
    ],
)
def test_what_is_refused(one, tmp_path, names, options, what):
    options = {"corpora": {"train": [one]}, **options}
    with pytest.raises(TaskError, match=what):
        build_tasks(names, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_paths_that_are_no_corpus(tmp_path):
    for path, what in ((tmp_path / "no", "no such file"), (tmp_path, "no file below ends in")):
        with pytest.raises(CorpusError, match=what):
            build_tasks(["ner"], {"train": [path]}, tmp_path / "out")


def test_a_tree_of_files_takes_gold(tmp_path):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "x.v4_gold_conll").write_text(COLUMNS)
    (folder / "x.v4_auto_conll").write_text("nonsense")
    (folder / "x.parse").write_text("nonsense")
    (folder / "summaries.jsonl").write_text("nonsense")
    assert list(read_documents(tmp_path)) == [story()]
    (folder / "y.gold_conll").write_text(COLUMNS)
    with pytest.raises(
        CorpusError, match=r"y.gold_conll: document 'gum/news/story' part 2 comes tw"
    ):
        list(read_documents(tmp_path))


def test_a_document_in_two_splits(one, tmp_path):
    with pytest.raises(TaskError, match="document 'gum/news/story' part 2 was in train"):
        build_tasks(["ner"], {"train": [one], "dev": [one]}, tmp_path / "out")
    with pytest.raises(TaskError, match="was in train"):
        build_tasks(["ner"], {"train": [one, one]}, tmp_path / "out")


def test_a_label_outside_the_set(small, one, tmp_path):
    corpora, _ = small
    one.write_text(COLUMNS.replace("gum/news/story", "x/poem/1"))
    with pytest.raises(TaskError, match="'genre', dev, x/poem/1: the label 'poem' is out"):
        build_tasks(["genre"], {**corpora, "dev": [one]}, tmp_path / "out")


def test_folders_that_are_there(one, tmp_path):
    build_tasks(["ner"], {"train": [one]}, tmp_path / "out")
    with pytest.raises(TaskError, match="exists; give overwrite=True"):
        build_tasks(["srl", "ner"], {"train": [one]}, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["ner"]
    build_tasks(["srl", "ner"], {"train": [one]}, tmp_path / "out", overwrite=True)
    (tmp_path / "out" / "syntax").mkdir()
    with pytest.raises(
        TaskError, match=r"is not a task that jaxtask wrote \(it has no task.json\)"
    ):
        build_tasks(["syntax"], {"train": [one]}, tmp_path / "out", overwrite=True)


def test_a_full_disk_leaves_nothing(one, tmp_path, monkeypatch):
    build_tasks(["ner"], {"train": [one]}, tmp_path / "out")
    before = (tmp_path / "out" / "ner" / "task.json").read_text()

    def full(self, *_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(TaskError, match=r"cannot be written: .* No space left"):
        build_tasks(["srl", "ner"], {"train": [one]}, tmp_path / "out", overwrite=True)
    monkeypatch.undo()
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["ner"]
    assert (tmp_path / "out" / "ner" / "task.json").read_text() == before


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "line 2: is not valid JSON"),
        ('{"document_id": "x"}', "line 2: summary is missing, expected text"),
        ("[1]", "line 2"),
        ('{"document_id": "x", "summary": " "}', "line 2: summary is ' ', expected text"),
    ],
)
def test_summaries_that_do_not_fit(one, tmp_path, line, what):
    path = tmp_path / "s.jsonl"
    path.write_text('{"document_id": "x", "summary": "y"}\n' + line + "\n")
    with pytest.raises(CorpusError, match=what):
        build_tasks(["sum"], {"train": [one]}, tmp_path / "out", summaries=path)


def test_the_first_summary_counts(one, tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_text(
        "".join(json.dumps({"document_id": "gum/news/story", "summary": s}) + "\n" for s in "ab")
    )
    build_tasks(["sum"], {"train": [one]}, tmp_path / "out", summaries=path)
    assert lines(tmp_path / "out" / "sum" / "train.jsonl")[0]["target"] == "a"


def test_a_task_that_returns_no_texts(one, tmp_path, monkeypatch):
    from jaxtask.corpora.tasks import Task

    monkeypatch.setitem(TASKS, "odd", Task("odd", lambda document: document.text))
    with pytest.raises(TaskError, match=r"task 'odd', document .* returned .*, expected two texts"):
        build_tasks(["odd"], {"train": [one]}, tmp_path / "out")


def test_lengths_in_tokens(one, tmp_path):
    """What a real tokenizer counts is what `max_len` limits."""
    folder = real_data("stories260K")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    length = tokens_of(tokenizer)
    build_tasks(["every2-sent"], {"train": [one]}, tmp_path, max_len=160, length=length)
    (line,) = lines(tmp_path / "every2-sent" / "train.jsonl")
    prompt = plain_prompt(line["instruction"], line["text"])
    ids = tokenizer(prompt + "\n")["input_ids"] + tokenizer(line["target"])["input_ids"]
    assert 0 < line["window"][1] < 6
    assert len(ids) < 160
    assert str(length) == f"tokens of {folder}"


def test_a_chat_template_counts():
    pytest.importorskip("jinja2", reason="jinja2 is not installed: chat templates need it")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(real_data("stories260K"))
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>{% endfor %}"
    )
    empty = tokenizer("<user></s><assistant></s>", add_special_tokens=False)["input_ids"]
    assert tokens_of(tokenizer).overhead == len(empty) + 4
