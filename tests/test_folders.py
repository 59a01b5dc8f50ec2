"""Folders and files that take their places whole, or not at all; those of strangers stay."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

import shell
from jaxtask.adapters.write import check_free
from jaxtask.corpora.task_folder import check_free as check_tasks
from jaxtask.demo.run import _clear as clear_demo
from jaxtask.errors import JaxtaskError
from jaxtask.finetune.run import _earlier
from jaxtask.finetune.training.checkpoint import check_checkpoints
from jaxtask.folders import MARKED, clean, foreign, new_file, new_folder
from jaxtask.report.figures import check_figures
from jaxtask.report.findings import check_folder
from jaxtask.report.page import check_file
from jaxtask.reproduce.folder import holding


def held(folder):
    return {p.name: p.read_text() for p in folder.iterdir()}


def fail(write, text):
    write(text)
    raise KeyError


def test_a_folder_is_replaced_or_left_as_it_was(tmp_path):
    path = tmp_path / "made"
    for text in ("first", "second"):
        with new_folder(path, ["file"]) as draft:
            (draft / "file").write_text(text)
        assert held(path) == {"file": text}
    with pytest.raises(KeyError), new_folder(path, ["file"]) as draft:
        fail((draft / "file").write_text, "third")
    assert held(path) == {"file": "second"}
    assert list(tmp_path.iterdir()) == [path]


def test_the_folder_one_stands_in(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with new_folder(type(tmp_path)(".")) as draft:
        (draft / "file").write_text("new")
    assert held(tmp_path / "here") == {"file": "new"}


def test_a_file_is_replaced_or_left_as_it_was(tmp_path):
    path = tmp_path / "made"
    with new_file(path) as file:
        file.write(b"first")
    with pytest.raises(KeyError), new_file(path) as file:
        fail(file.write, b"second")
    assert held(tmp_path) == {"made": "first"}


def test_links_stay_and_what_they_lead_to_is_replaced(tmp_path):
    (tmp_path / "disk").mkdir()
    for name, make in (("folder", new_folder), ("file", new_file)):
        link = tmp_path / name
        link.symlink_to(tmp_path / "disk" / name)
        with make(link) as draft:
            (draft / "x").write_text("x") if name == "folder" else draft.write(b"x")
        assert link.is_symlink()
    assert held(tmp_path / "disk" / "folder") == {"x": "x"}
    assert (tmp_path / "disk" / "file").read_text() == "x"


@pytest.mark.parametrize(
    "name",
    ["notes.txt", ".env", ".git/config", "file/inside", "empty/", "sub/file", "a/b/c/d", "filé"],
)
def test_a_folder_with_anything_of_a_stranger_is_left_alone(tmp_path, name):
    path = tmp_path / "made"
    place = path / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.mkdir(parents=True) if name.endswith("/") else place.write_text("theirs")
    with pytest.raises(FileExistsError, match="did not write"), new_folder(path, ["file", "a/*"]):
        pytest.fail("work was done before the folder was looked at")
    assert place.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["made"]


def test_what_a_stranger_writes_meanwhile_stays(tmp_path):
    path = tmp_path / "made"

    def theirs(folder):
        folder.mkdir()
        (folder / "theirs").write_text("theirs")

    with pytest.raises(FileExistsError), new_folder(path, ["file"]):
        theirs(path)
    assert held(path) == {"theirs": "theirs"}
    assert list(tmp_path.iterdir()) == [path]


def test_parents_vanish_too(tmp_path):
    with pytest.raises(KeyError), new_folder(tmp_path / "a" / "b" / "made"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []

    def other(place):
        (place / "theirs").touch()
        raise KeyError

    with pytest.raises(KeyError), new_folder(tmp_path / "a" / "b" / "made"):
        other(tmp_path / "a")
    assert [p.name for p in tmp_path.rglob("*")] == ["a", "theirs"]


def test_a_link_is_not_ours_and_a_file_no_folder(tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "file").symlink_to(tmp_path)
    assert foreign(tmp_path / "made", ["file", "file/**"]) == "file"
    (tmp_path / "plain").write_text("theirs")
    with pytest.raises(FileExistsError), new_folder(tmp_path / "plain"):
        pass
    with pytest.raises(OSError), new_file(tmp_path / "made"):  # noqa: PT011
        pass


@pytest.mark.parametrize(
    ("ours", "found"),
    [
        ([], "a/b/c.txt"[:1]),
        (["**"], None),
        (["a/**", "d.csv"], None),
        (["a/b/c.txt", "d.*"], None),
        (["a/b/*", "?.csv"], None),
        (["a/*", "d.csv"], "a/b"),
        (["a/b/c.txt"], "d.csv"),
        (["a/b", "d.csv"], "a/b"),
        (["a", "d.csv"], "a"),
        (["*/*/*/*", "*"], "a/b/c.txt"),
    ],
)
def test_what_is_ours_is_said_by_patterns(tmp_path, ours, found):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c.txt").touch()
    (tmp_path / "d.csv").touch()
    assert foreign(tmp_path, ours) == found


# What a stranger may have beside the place, by names that drafts have, had or could have.
THEIRS = (
    ".made.new", ".made.old", ".made.1234", ".made.jaxtask-12345678", ".made.tmp", "made.partial",
    "made.draft",
)  # fmt: skip


@pytest.mark.parametrize("folder", [True, False])
def test_what_lies_beside_is_left_alone(tmp_path, folder):
    for name in THEIRS:
        if folder:
            for part in ("new", "old"):
                (tmp_path / name / part).mkdir(parents=True)
                (tmp_path / name / part / "theirs").touch()
            (tmp_path / name / "draft").write_text("not the mark")
        else:
            (tmp_path / name).write_text("theirs")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(KeyError), new_folder(tmp_path / "made"):
        raise KeyError
    with new_file(tmp_path / "made"):
        pass
    clean(tmp_path)
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "made"])


KILLED = """
import os, signal, sys
from pathlib import Path
from jaxtask import folders
path, moment = Path(sys.argv[1]), sys.argv[2]
rename = os.rename
def cut(one, other):
    if moment == "between" and Path(one).name == "new":
        os.kill(os.getpid(), signal.SIGKILL)
    rename(one, other)
os.rename = cut
with folders.new_folder(path, ["file"]) as draft:
    (draft / "file").write_text("half")
    if moment == "within":
        os.kill(os.getpid(), signal.SIGKILL)
    if moment == "alive":
        print("at work", flush=True)
        sys.stdin.read()
"""


@pytest.mark.process
@pytest.mark.parametrize("moment", ["within", "between"])
def test_what_a_killed_process_left_goes_or_goes_back(tmp_path, moment):
    """Killed between two renamings, it has the only whole folder in its draft."""
    path = tmp_path / "made"
    path.mkdir()
    (path / "file").write_text("whole")
    done = subprocess.run([sys.executable, "-c", KILLED, path, moment], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.glob(".made.*")
    copy = shutil.copytree(left, tmp_path / ".other.jaxtask-12345678")
    assert path.exists() == (moment == "within")
    with pytest.raises(KeyError), new_folder(path, ["file"]):
        raise KeyError
    assert held(path) == {"file": "whole"}
    assert set(tmp_path.iterdir()) == {path, copy}
    clean(tmp_path)
    assert not copy.exists()


@pytest.mark.process
def test_a_living_draft_is_left_alone(tmp_path):
    path = tmp_path / "made"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    other = shell.start("-c", KILLED, path, "alive", **pipes)
    assert other.stdout.readline() == "at work\n"
    clean(tmp_path)
    with new_folder(path, ["file"]) as draft:
        (draft / "file").write_text("first")
    other.communicate("")
    assert other.returncode == 0
    assert held(path) == {"file": "half"}
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_are_those_of_anything_new(tmp_path):
    mask = os.umask(0o027)
    try:
        with new_folder(tmp_path / "folder"), new_file(tmp_path / "file"):
            pass
    finally:
        os.umask(mask)
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def experiment(folder):
    with holding(folder, {"base": "b"}):
        pass


ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "jaxtask.json")
STEP = "checkpoints/10/_CHECKPOINT_METADATA"
# What may replace or empty a folder: what it leaves there itself, and how it looks at it first.
WRITERS = {
    "adapter": (ADAPTER, lambda folder: check_free(folder, True)),
    "task": (("task.json", "train.jsonl"), lambda f: check_tasks(f.parent, [f.name], True)),
    "findings": (
        ("findings.json", "pooled/rec.csv", "table.csv", "figures/pca.png", "mds.svg"),
        lambda folder: check_folder(folder, overwrite=True),
    ),
    "figures": (("pca.png", "mds.pdf"), lambda folder: check_figures(folder, overwrite=True)),
    "demo": (
        ("demo.json", "corpus/train.conll", "tasks/ner/task.json", "adapters/ner/jaxtask.json",
         f"adapters.work/group-1/{STEP}", "result.zarr/zarr.json", "experiment/experiment.json",
         "experiment/corpora/stories-dev.json", "experiment/data/ner/task.json",
         "experiment/seed0/adapters/ner/jaxtask.json", "experiment/seed0/findings/findings.json",
         "experiment/seed0/findings/pooled/rec.csv", "experiment/seed0/findings/pca.png"),
        clear_demo,
    ),
    "work": ((f"group-1/{STEP}", "group-2/metrics.jsonl", "stacks.json"), _earlier),
    "checkpoints": (
        (STEP.partition("/")[2], "3.orbax-checkpoint-tmp-17/arrays/d"), check_checkpoints,
    ),
}  # fmt: skip
THEIR_FILES = (
    ".git/config", ".env", "notes.txt", "pooled/mine.csv", "tasks/ner/notes", "adapters/mine/x",
    "group-1/notes.md", "group-9/mine.txt", "group-1/checkpoints/mine/x", "group-1/checkpoints/7/x",
    "5/data", "x.orbax-checkpoint-tmp-1/x", "corpus/mine.txt", "base/mine", "README.md",
    "adapter_model.bin", "figures/mine.png", "tasks/mine/task.json", "adapters/mine/jaxtask.json",
    "experiment/data/mine/task.json", "experiment/seed0/adapters/mine/jaxtask.json",
    "experiment/seed0/findings/mine.csv", "experiment/seed0/findings/pooled/mine.txt",
    "experiment/corpora/mine.conll", "experiment/seed7/numbers.json",
)  # fmt: skip


def leave(folder, files, text="source,target,value"):
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize(
    "place",
    ["corpus", "experiment/data", "experiment/corpora", "experiment/seed0/adapters",
     "experiment/seed0/adapters.work", "experiment/seed0/adapters.work/group-1", "tasks"],
)  # fmt: skip
def test_a_demo_that_was_killed_is_replaced(tmp_path, place):
    leave(tmp_path, ["demo.json"])
    leave(tmp_path / place / ".made.jaxtask-12345678", ["draft", "new/half"], MARKED.decode())
    clear_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["demo.json"]


@pytest.mark.parametrize("theirs", [None, *THEIR_FILES])
@pytest.mark.parametrize("writer", WRITERS)
def test_whoever_replaces_a_folder_leaves_that_of_a_stranger(tmp_path, writer, theirs):
    files, look = WRITERS[writer]
    folder = tmp_path / "made"
    leave(folder, files)
    if theirs is None:
        look(folder)
        return
    leave(folder, [theirs], "theirs")
    before = sorted(tmp_path.rglob("*"))
    elsewhere = writer == "work" and not theirs.startswith("group-")
    if elsewhere:
        look(folder)
    else:
        with pytest.raises((JaxtaskError, FileExistsError)) as caught:
            look(folder)
        parts = theirs.split("/")
        named = ("/".join(parts[i:j]) for j in range(len(parts) + 1) for i in range(j))
        assert any(repr(name) in str(caught.value) for name in named)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("theirs", [".git/config", ".env", ".DS_Store", "data/x", "notes.txt"])
def test_an_experiment_goes_to_an_empty_folder(tmp_path, theirs):
    folder = tmp_path / "out"
    leave(folder, [theirs], "theirs")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(JaxtaskError, match="and no experiment"):
        experiment(folder)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_experiment_goes_on_beside_what_is_not_its_own(tmp_path):
    experiment(tmp_path / "out")
    names = (
        ".git/x",
        ".env",
        "seed0/.notes/x",
        "corpora/.x",
        "data/.ner.123/x",
        "seed0/adapters/.y",
    )
    leave(tmp_path / "out", names)
    (tmp_path / "out" / "seed1").symlink_to(tmp_path)
    before = sorted((tmp_path / "out").rglob("*"))
    experiment(tmp_path / "out")
    assert sorted((tmp_path / "out").rglob("*")) == before


def test_a_report_replaces_reports_only(tmp_path):
    (tmp_path / "mine.html").write_text("<!doctype html><p>mine")
    with pytest.raises(JaxtaskError, match="is no report; it is left alone"):
        check_file(tmp_path / "mine.html", overwrite=True)
