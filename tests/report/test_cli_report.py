"""`jaxtask report`, run as a user runs it."""

import numpy as np
import pytest

import jaxtask as jt
from shell import run

from .results import GROUPS, bank


def report(*arguments, code=0):
    return run("report", *arguments, code=code)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    names = ("one", "two", "narrow")
    made = jt.compare(bank(names), metrics=["grassmann", "cosine"], keep=["angles"])
    jt.save(made, folder / "result.zarr")
    alone = jt.compare(bank(("one",)), metrics=["cosine"])
    jt.save(alone, folder / "alone.zarr")
    nothing = made.copy()
    for name in nothing.data_vars:
        if nothing[name].dtype != bool:
            nothing[name] = nothing[name] * np.nan
    jt.save(nothing, folder / "nothing.zarr")
    (folder / "groups.yaml").write_text("first: [one, two]\nsecond: [narrow]\n")
    (folder / "wrong.yaml").write_text("first: [one, tow]\nsecond: [narrow]\n")
    return folder


@pytest.mark.process
@pytest.mark.slow
def test_a_page_and_figures(home, tmp_path):
    page, figures = tmp_path / "report.html", tmp_path / "figures"
    options = ("--groups", home / "groups.yaml", "--pairs", "narrow:one")
    said = report(home / "result.zarr", "--out", page, *options, "--maps", "cosine").stdout
    assert said.startswith(f"Written: {page} (")
    text = page.read_text()
    assert '"pairs":[{"tasks":[2,0]' in text
    assert "--keep spectra" in text
    assert '"groups":["first","first","second"]' in text
    said = report(home / "result.zarr", "--out", figures, *options, "--format", "svg").stdout
    assert "matrix: matrix.svg" in said
    assert "spectra: not drawn: the result keeps no spectra" in said
    assert (figures / "angles.svg").is_file()


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{home}/alone.zarr", "--out", "{out}"], ["one adapter (one)", "two or more"]),
        (["{home}/nothing.zarr", "--out", "{out}"], ["NaN"]),
        (["{home}/result.zarr", "--out", "{out}", "--pairs", "one:tow"], ["tow", "mean 'two'"]),
        (["{home}/result.zarr", "--out", "{out}", "--pairs", "one"], ["'one'", "sum:ner"]),
        (["{home}/result.zarr", "--out", "{out}", "--maps", "rec"], ["'rec'", "cosine"]),
        (["{home}/result.zarr", "--out", "{out}", "--groups", "{home}/wrong.yaml"], ["tow", "two"]),
        (["{home}/result.zarr", "--out", "{out}", "--format", "gif"], ["gif", "html, pdf"]),
        (["{home}/result.zarr", "--out", "{home}/groups.yaml"], ["exists", "--overwrite"]),
        (["{home}/result.zarr", "--out", "{out}/no/r.html"], ["no folder"]),
        (["{home}/result.zarr", "--out", "{home}", "--format", "pdf"], ["left alone"]),
        (["{home}/none.zarr", "--out", "{out}"], ["no such result"]),
    ],
)
def test_bad_input_is_one_line_and_status_1(arguments, words, home, tmp_path):
    before = sorted(home.iterdir())
    out = tmp_path / "report.html"
    done = report(*(a.format(home=home, out=out) for a in arguments), code=1)
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("jaxtask: ")
    for word in words:
        assert word in line
    assert not list(tmp_path.iterdir())
    assert sorted(home.iterdir()) == before


def test_groups_of_the_small_result_are_known(result):
    names = result["source"].values.tolist()
    assert {task for tasks in GROUPS.values() for task in tasks} == set(names)
