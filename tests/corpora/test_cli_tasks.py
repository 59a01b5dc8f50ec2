import json

import pytest
from typer.testing import CliRunner

from corpora.story import COLUMNS
from jaxtask.cli.tasks import app
from jaxtask.corpora import TASKS
from jaxtask.errors import TaskError

ROLES = ("user", "assistant")
MINE = """
from jaxtask.corpora import task

@task("mine")
def mine(document):
    '''A task of my own.'''
    return "sing.", "la"
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    (tmp_path / "a.conll").write_text(COLUMNS)
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "a.csv").write_text("s,y\na b,p\nc,q\n")

    def _run(*arguments):
        return CliRunner().invoke(app, arguments, catch_exceptions=False)

    known = dict(TASKS)
    yield _run
    TASKS.clear()
    TASKS.update(known)


def test_list(run):
    shown = run("list").stdout
    assert all(name in shown for name in TASKS)
    rows = json.loads(run("list", "--json", "--tasks-from", "mine.py").stdout)
    assert {r["name"] for r in rows} == set(TASKS)
    assert {"name": "mine", "kind": "text", "needs": [], "summary": "A task of my own."} in rows


def test_build(run, tmp_path):
    given = ("--corpus", "train=a.conll", "--out", "data")
    done = run("build", "ner", "mine", *given, "--tasks-from", "mine.py")
    assert done.exit_code == 0
    for word in ("ner", "mine", "train", "words between spaces", "dropped, and why"):
        assert word in done.stdout
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["mine", "ner"]
    built = json.loads(run("build", "ner", *given, "--prompt", "neutral", "--json").stdout)
    assert [b["task"] for b in built] == ["ner-neutral"]
    (again,) = json.loads(
        run("build", "ner", *given, "--overwrite", "--max-len", "60", "--json").stdout
    )
    assert again["max_len"] == 60


def test_table(run, tmp_path):
    options = ("--corpus", "train=a.csv", "--text", "s", "--label", "y", "--out", "data")
    assert "pq" in run("table", "pq", *options).stdout
    about = json.loads((tmp_path / "data/pq/task.json").read_text())
    assert about["labels"] == ["p", "q"]
    (about,) = json.loads(
        run("table", "pq", *options, "--overwrite", "--labels", "q,p", "--json").stdout
    )
    assert about["labels"] == ["q", "p"]


def test_text(run, tmp_path):
    talks = ({"messages": [{"role": r, "content": f"{r} {n}"} for r in ROLES]} for n in range(9))
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, talks)) + '\n{"messages": null}\n')
    done = run("text", "t", "--corpus", "train=a.jsonl", "--dev-share", "0.3")
    for word in (
        "train",
        "dev",
        "words between spaces",
        "1: nothing in 'messages' (first: a.jsonl",
    ):
        assert word in done.stdout
    assert len((tmp_path / "data/t/dev.jsonl").read_text().splitlines()) == 3
    options = ("--prompt", "s", "--target", "y", "--instruction", "Say it.", "--max-len", "6")
    (about,) = json.loads(
        run(
            *("text", "t", "--corpus", "train=a.csv", "--corpus", "valid=a.csv", *options),
            *("--overwrite", "--json"),
        ).stdout
    )
    assert list(about["splits"]) == ["train", "dev"]
    for counts in about["splits"].values():
        assert counts["dropped"] == {"longer than 6 words (first: a.csv, line 2)": 1}
    assert about["instruction"] == "Say it."


def test_refused(run):
    for arguments, what in (
        (("build", "ner", "--corpus", "a.conll", "--out", "d"), "expected SPLIT=PATH"),
        (("build", "nar", "--corpus", "train=a.conll", "--out", "d"), "did you mean 'ner'"),
        (
            ("table", "t", "--corpus", "train=a.csv", "--corpus", "train=a.csv", "--out", "d"),
            "2 files",
        ),
        (("text", "t", "--corpus", "train=a.csv"), r"found the columns s, y, .* prompt=COLUMN"),
    ):
        with pytest.raises(TaskError, match=what):
            run(*arguments)
    assert run("build", "ner").exit_code == 2
