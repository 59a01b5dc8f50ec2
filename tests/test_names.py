"""Names and paths that people give: what is refused, and patterns over loops of links."""

import os
import time
from pathlib import Path

import pytest

import jaxtask as jt
from jaxtask.adapters.find import find_adapters
from jaxtask.adapters.weight_files import weight_files
from jaxtask.adapters.write import check_free
from jaxtask.cli.analyze import read_groups
from jaxtask.corpora.files import corpus_files, text_lines
from jaxtask.corpora.task_folder import check_free as check_tasks
from jaxtask.demo.run import _clear as clear_demo
from jaxtask.engine.zarr_store import check_target
from jaxtask.errors import JaxtaskError, shown
from jaxtask.finetune.data.task_data import find_tasks
from jaxtask.finetune.models.find import find_base
from jaxtask.finetune.recipe.files import read_recipe
from jaxtask.finetune.recipe.settings import make_recipe
from jaxtask.names import check_below, check_name, check_names, check_path, matching, walk
from jaxtask.report.figures import check_figures
from jaxtask.report.findings import check_folder
from jaxtask.report.page import check_file
from jaxtask.reproduce.experiment import make_experiment, read_experiment
from jaxtask.reproduce.folder import holding

BAD_NAMES = [
    *("", ".", "..", "../x", "../../../x", "a/b", "/etc", "a\\b", "C:x", ".git", "-rf", " x", "x "),
    *(
        "a\nb",
        "a\tb",
        "a\0b",
        "\x1b[31m",
        "a\u202eb",
        "a\u200bb",
        "a\u2028b",
        "caf\udce9",
        "x" * 201,
    ),
    *("é" * 101, None, 3, True, ["a"], b"a", "~/x"),
]


@pytest.mark.parametrize("name", BAD_NAMES, ids=repr)
def test_what_is_no_name(name):
    with pytest.raises(JaxtaskError, match=r"^corpus ") as caught:
        check_name(name, "corpus", JaxtaskError)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "name",
    ["ner", "first10-sent", "a b", "é", "日本", "x" * 200, "a.b", "a..b", "_", "=cmd", "~", "<x>"],
)
def test_what_is_a_name(name):
    assert check_name(name, "task", JaxtaskError) == name


def test_names_that_some_disks_do_not_tell_apart():
    check_names(["ner", "srl", "é"], "task", JaxtaskError)
    for names in (["ner", "NER"], ["x", "y", "x"], ["\u00e9", "e\u0301"], ["straße", "STRASSE"]):
        with pytest.raises(JaxtaskError, match="would be one file or folder"):
            check_names(names, "task", JaxtaskError)


@pytest.mark.parametrize("path", ["/etc/x", "~/x", "../x", "a/../../x", "a/..", "", "a\0", 3, None])
def test_paths_that_leave_their_folder(path):
    with pytest.raises(JaxtaskError, match="train"):
        check_below(path, "train", JaxtaskError)
    assert check_below("a/b.c", "train", JaxtaskError) == "a/b.c"
    assert check_below("..a/b..", "train", JaxtaskError) == "..a/b.."


LONG, DEEP, NUL, BYTES = "x" * 256, "x/" * 2100, "a\0b", os.fsdecode(b"caf\xe9")
NO_PATHS = {"long": LONG, "long pattern": f"*{LONG}", "deep": DEEP, "NUL": NUL, "no UTF-8": BYTES}
NO_PATHS |= {
    "many parts": "x/" * 300,
    "below": f"a/{LONG}/b",
    "pattern with NUL": "a*\0",
    "long in UTF-8": "é" * 128,
}
TAKERS = {
    "adapters": find_adapters,
    "load_adapters": jt.load_adapters,
    "an adapter": lambda path: check_free(Path(path), False),
    "checkpoints": lambda path: jt.from_checkpoints(path, path),
    "a result": jt.open_result,
    "a new result": lambda path: check_target(Path(path), overwrite=False),
    "corpus": corpus_files,
    "lines": lambda path: list(text_lines(path)),
    "tasks": lambda path: find_tasks([path]),
    "new tasks": lambda path: check_tasks(Path(path), ["ner"], False),
    "base": find_base,
    "recipe": read_recipe,
    "experiment": read_experiment,
    "groups": lambda path: read_groups(Path(path)),
    "findings": lambda path: check_folder(Path(path), overwrite=False),
    "figures": lambda path: check_figures(Path(path), overwrite=False),
    "page": lambda path: check_file(Path(path), overwrite=False),
    "demo": lambda path: clear_demo(Path(path)),
    "reproduce": lambda path: holding(Path(path), {}).__enter__(),
    **{
        f"recipe's {key}": lambda path, key=key: make_recipe({"base": "b", key: path}, "r")
        for key in ("base", "tokenizer", "start", "out", "work")
    },
    "recipe's data": lambda path: make_recipe({"base": "b", "data": ["d", path]}, "r"),
}


@pytest.mark.parametrize("path", NO_PATHS)
@pytest.mark.parametrize("taker", TAKERS)
def test_what_is_no_path_is_one_line(tmp_path, monkeypatch, taker, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(JaxtaskError) as caught:
        TAKERS[taker](NO_PATHS[path])
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
    assert list(tmp_path.iterdir()) == []


def test_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert check_path("~/x", "out", JaxtaskError) == Path("/home/me/x")
    assert check_path("~nobody-of-that-name/x", "out", JaxtaskError) == Path(
        "~nobody-of-that-name/x"
    )
    recipe = make_recipe({"base": "~/b", "out": "~/o", "data": ["~/d/*"]}, "r")
    assert (recipe.base, recipe.out, recipe.data) == ("/home/me/b", "/home/me/o", ("/home/me/d/*",))


@pytest.fixture
def looped(tmp_path, monkeypatch):
    """Folders with links to each other and to themselves: 2^40 paths, of 6 folders."""
    monkeypatch.chdir(tmp_path)
    for name in ("a/x", "a/y/z", "b"):
        Path(name).mkdir(parents=True)
    for place in ("a", "a/x", "a/y/z", "b"):
        for to in ("a", "b", "."):
            Path(place, f"to-{to if to != '.' else 'all'}").symlink_to(tmp_path / to)
    Path("a/self").symlink_to(tmp_path / "a" / "self")
    Path("a/broken").symlink_to(tmp_path / "nothing")
    Path("a/.hidden").mkdir()
    Path("a/y/file.txt").write_text("x")
    return tmp_path


def test_patterns_end_where_links_loop(looped):
    start = time.process_time()
    assert matching("a/**", JaxtaskError) == ["a", "a/x", "a/y", "a/y/file.txt", "a/y/z"]
    for pattern in ("**", "**/**", "a/**/**/*.txt", "**/file.txt", "*/**/z/**", f"{looped}/**/x"):
        found = matching(pattern, JaxtaskError)
        assert len(set(found)) == len(found) < 60
    assert matching("**/*.txt", JaxtaskError) == ["a/y/file.txt"]
    # A link that is named is followed.
    assert matching("b/to-a/y/*.txt", JaxtaskError) == ["b/to-a/y/file.txt"]
    assert matching("a/to-?/y/f*", JaxtaskError) == ["a/to-a/y/file.txt"]
    with pytest.raises(JaxtaskError, match="the pattern matches"):
        find_adapters("**/*.safetensors")
    with pytest.raises(JaxtaskError, match=r"holds no adapter.*links such as 'to-a'"):
        find_adapters("b")
    with pytest.raises(JaxtaskError, match="no file below ends"):
        corpus_files("a")
    with pytest.raises(JaxtaskError, match="is not there"):
        find_tasks(["**/nothing"])
    assert time.process_time() - start < 30


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("a/y", ["a/y"]),
        ("a/*y*", ["a/y"]),
        ("[ab]", ["a", "b"]),
        ("./a/?", ["./a/x", "./a/y"]),
        ("a/.h*", ["a/.hidden"]),
        ("a/[!x]", ["a/y"]),
        ("none/*", []),
        ("a/y/file.txt/*", []),
        ("a/[z-a]", []),
        ("a/self/*", []),
    ],
)
def test_patterns(looped, pattern, found):
    assert matching(pattern, JaxtaskError) == found


def test_walks_are_in_order_and_deep(tmp_path):
    deep = [str(tmp_path)]
    for _ in range(1200):
        deep.append(f"{deep[-1]}/d")
        os.mkdir(deep[-1])
    try:
        assert [str(here) for here, _, _ in walk(tmp_path)] == deep
        with pytest.raises(JaxtaskError, match="holds no adapter"):
            find_adapters(tmp_path)
    finally:  # pytest's own way to remove folders does not go so deep
        for path in reversed(deep):
            os.rmdir(path)


def test_names_that_are_not_utf8_are_refused_where_they_count(tmp_path):
    for name in (BYTES, "good"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text("{}")
        (tmp_path / name / "adapter_model.safetensors").touch()
        (tmp_path / name / "train.conll").touch()
    for load in (jt.load_adapters, corpus_files):
        with pytest.raises(JaxtaskError, match="not UTF-8") as caught:
            load(tmp_path)
        assert str(caught.value).isprintable()


def test_folders_that_cannot_be_read(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    for take in (find_adapters, corpus_files, lambda path: find_adapters(f"{path}/**")):
        with pytest.raises(JaxtaskError, match="closed: cannot be read: Permission denied"):
            take(tmp_path)


@pytest.mark.parametrize("file", ["../x", "/etc/passwd", "a/b", "", 3, None, "x" * 300])
def test_an_index_names_files_beside_it(tmp_path, file):
    import json

    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": file}}))
    with pytest.raises(JaxtaskError, match="weight_map"):
        weight_files(tmp_path)


CORPUS = {"folder": "one", "train": ["t.conll"], "dev": ["d.conll"], "tasks": ["syntax"]}


@pytest.mark.parametrize(
    ("corpora", "says"),
    [
        *(
            ({name: CORPUS}, "corpora: the name")
            for name in ("../../../x", "a/b", "/x", "..", "", 3)
        ),
        ({"one": CORPUS, "ONE": CORPUS}, "corpora: the name"),
        *(
            ({"one": {**CORPUS, "prefix": prefix}}, "the adapter's name")
            for prefix in ("../", "a/", "-", ".", "x" * 250, "\x1b[31m")
        ),
        *(
            ({"one": {**CORPUS, key: value}}, f"corpora.one.{key}")
            for key, value in (
                ("folder", "../other"),
                ("folder", "/etc"),
                ("train", ["../../etc/passwd"]),
                ("dev", ["~/x"]),
                ("summaries", "a/../../x"),
            )
        ),
    ],
    ids=repr,
)
def test_names_in_an_experiment(corpora, says):
    with pytest.raises(JaxtaskError, match=says) as caught:
        make_experiment({"corpora": corpora, "recipe": {}}, "e.yaml")
    assert str(caught.value).isprintable()
    assert make_experiment({"corpora": {"one": CORPUS}, "recipe": {}}, "e.yaml").names == (
        "syntax",
    )


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        *(
            ("lora", "r", value)
            for value in (10**30, 2**16 + 1, 10**4000, -1, True, 1.0, "8", None)
        ),
        *(("lora", "alpha", value) for value in (10**400, 1e39, -(10**400), float("inf"), True)),
        ("lora", "rank_pattern", {"x": 10**30}),
        ("lora", "alpha_pattern", {"x": 10**400}),
        ("lora", "seed", 2**64),
        ("lora", "dropout", 10**400),
        *(
            ("training", key, 10**30)
            for key in ("steps", "epochs", "batch", "accumulate", "max_len")
        ),
        *(("training", key, 2**31) for key in ("eval_every", "patience", "generate", "log_every")),
        *(("training", key, 10**400) for key in ("lr", "clip", "weight_decay", "warmup")),
        ("training", "betas", [0.9, 10**400]),
        ("training", "mesh", {"task": 10**30}),
        ("training", "stack", 10**30),
    ],
)
def test_numbers_that_no_setting_takes(section, key, value):
    with pytest.raises(JaxtaskError, match=rf"r: {section}\.{key} is ") as caught:
        make_recipe({"base": "b", section: {key: value}}, "r")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("seeds", [[10**30], [-1], [True], [1, 1], [1.5], [], 3, [10**5000], ["1"]])
def test_seeds_of_an_experiment(seeds):
    with pytest.raises(JaxtaskError, match="seeds is ") as caught:
        make_experiment({"corpora": {"one": CORPUS}, "recipe": {}, "seeds": seeds}, "e.yaml")
    assert len(str(caught.value)) < 500


def test_what_was_found_is_shown_in_one_short_line():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    for value in ("x\ny" * 1000, 10**5000, deep, "\x1b\u202e\udce9", list(range(10**4))):
        assert shown(value).isprintable()
        assert len(shown(value)) <= 200
    del deep
