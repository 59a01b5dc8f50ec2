"""Figures for papers: which are drawn, that they say what they should, and where they go."""

import re

import numpy as np
import pytest

from jaxtask.errors import ReportError
from jaxtask.report import plots
from jaxtask.report.figures import NAMES, draw_figures, write_figures
from jaxtask.report.labels import short_names, shorten

from .results import TASKS

STARTS = {"pdf": b"%PDF", "png": b"\x89PNG", "svg": b"<?xml"}


@pytest.fixture(scope="module")
def drawn(result, findings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    assert draw_figures(result, findings, folder, "svg") == {n: f"{n}.svg" for n in NAMES}
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("form", STARTS)
def test_every_figure_is_drawn(form, drawn, result, findings, tmp_path):
    told = draw_figures(result, findings, tmp_path, form)
    assert told == {name: f"{name}.{form}" for name in NAMES}
    for file in told.values():
        made = (tmp_path / file).read_bytes()
        assert made.startswith(STARTS[form])
        if form == "svg":  # one result has one figure
            assert made == (drawn / file).read_bytes()


def test_figures_keep_their_names_as_text_and_fit_a_column(drawn):
    for name in NAMES:
        text = (drawn / f"{name}.svg").read_text()
        if name in ("matrix", "pca", "mds", "clusters"):
            assert ">one</text>" in text, name
            assert "more&lt;/b" in text, name
            assert "a-$name$" in text, name
        width = float(re.search(r'width="([0-9.]+)pt"', text)[1]) / 72
        assert width < plots.COLUMN * 1.12, name


def test_what_cannot_be_drawn_says_why(bare, tmp_path):
    told = draw_figures(*bare, tmp_path, "png")
    drawn = {name for name, file in told.items() if not file.startswith("not drawn: ")}
    assert drawn == {"matrix", "layers"}
    assert {p.stem for p in tmp_path.iterdir()} == drawn
    for name, option in [
        ("pca", "--metrics grassmann"),
        ("angles", "--keep angles"),
        ("spectra", "--keep spectra"),
        ("inclusion", "--metrics energy_core,rec,residual"),
    ]:
        assert option in told[name]


def test_matrix_shows_the_values_in_the_order_of_the_leaves(findings):
    figure = plots.matrix(findings, "grassmann_out")
    (image,) = figure.axes[0].images
    order = findings.maps.order
    expected = findings.pooled["grassmann_out"].values[np.ix_(order, order)]
    off = ~np.eye(len(order), dtype=bool)
    np.testing.assert_allclose(np.asarray(image.get_array())[off], expected[off])
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == [
        shorten(TASKS[n], 22) for n in order
    ]


def test_labels_do_not_hide_each_other(findings):
    at = np.array([[0, 0], [0.01, 0.01], [1, 1], [0.99, 1], [0.5, 0.5]])
    figure = plots.scatter(findings, at, np.array([0.6, 0.4]), "component")
    boxes = [t.get_window_extent() for t in figure.axes[0].texts]
    assert len(boxes) == 5
    for n, a in enumerate(boxes):
        for b in boxes[n + 1 :]:
            width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
            assert min(width, height) <= 0


def test_short_names_differ():
    names = ["instruction-following-0", "instruction-fallowing-0", "x"]
    short = short_names(names, 10)
    assert len(set(short)) == 3
    assert max(map(len, short)) <= 10
    assert short[2] == "x"
    assert shorten("abcdefghij", 5) == "ab…ij"


def test_a_folder_of_figures_is_replaced_only_when_asked(result, findings, tmp_path):
    folder = tmp_path / "figures"
    folder.mkdir()
    (folder / "matrix.png").touch()
    with pytest.raises(ReportError, match="overwrite=True"):
        write_figures(result, findings, folder, "svg")
    write_figures(result, findings, folder, "svg", overwrite=True)
    assert {p.name for p in folder.iterdir()} == {f"{name}.svg" for name in NAMES}
    (folder / "mine.txt").touch()
    with pytest.raises(ReportError, match=r"'mine\.txt', which is no part of a folder of figures"):
        write_figures(result, findings, folder, "png", overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["figures"]


@pytest.mark.parametrize("zero", [("one",), TASKS], ids=["one task", "all tasks"])
def test_updates_that_are_zero_are_drawn_as_far_as_they_go(zero, result, findings, tmp_path):
    ds = result.copy(deep=True)
    for task in zero:
        at = {"task": task}
        ds["rank"].loc[at], ds["frobenius"].loc[at], ds["spectra"].loc[at] = 0, 0, np.nan
        for side in ("source", "target"):
            for name in ("angles_out", "angles_in", "projected"):
                ds[name].loc[{side: task}] = np.nan
    told = draw_figures(ds, findings, tmp_path, "svg", [(0, 1), (1, 3)])
    if zero == TASKS:
        assert told["spectra"] == "not drawn: one update of each pair is zero, and has no spectrum"
    else:
        texts = re.findall(r">(.*)</text>", (tmp_path / told["spectra"]).read_text())
        assert {"two", "→ narrow"} <= set(texts)
        assert "one" not in texts
    assert told["angles"] == "angles.svg"
