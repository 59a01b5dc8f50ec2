"""The page in a headless Chromium: it opens by itself, and its controls change the pictures."""

import json
import shutil

import numpy as np
import pytest

import jaxtask as jt
from benchmarks.browser import Browser
from jaxtask.report.page import render, write_page

from .results import TASKS

pytestmark = [pytest.mark.slow, pytest.mark.browser]

SIZES = [1280, 400]
PLOTS = ("matrix-plot", "pca-plot", "mds-plot", "tree-plot", "graph-plot", "angles-out",
         "angles-in", "spectra-forth", "spectra-back", "layers-plot")  # fmt: skip
OFF = ~np.eye(len(TASKS), dtype=bool)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    pytest.importorskip("selenium", reason="no selenium: pip install '.[browser]'")
    for names in (("chromium", "chromium-browser", "google-chrome"), ("chromedriver",)):
        if not any(map(shutil.which, names)):
            pytest.skip(f"none of {', '.join(names)} is on the path")
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture
def browser(chromium, page):
    chromium.size(1280)
    chromium.open(page)
    chromium.scroll_through()
    return chromium


def matrix(browser):
    rows = browser.plot("matrix-plot", "data[0].z")
    return np.array([[np.nan if x is None else x for x in row] for row in rows])


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", SIZES)
def test_page_opens_by_itself(width, dark, chromium, page):
    chromium.size(width, dark=dark)
    chromium.open(page)
    chromium.scroll_through()
    assert chromium.console() == []
    assert chromium.requests() == {page.as_uri()}
    assert chromium.run("return document.documentElement.scrollWidth") == width
    for name in PLOTS:
        assert chromium.plot(name, "data.length") > 0, name
    ink, paper = chromium.run(
        "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
    )
    light = [sum(map(int, rgb[4:-1].split(",")[:3])) for rgb in (ink, paper)]
    assert (light[0] > light[1]) == dark


@pytest.mark.parametrize("width", SIZES)
def test_nothing_is_cut_off(width, chromium, page):
    chromium.size(width)
    chromium.open(page)
    chromium.scroll_through()
    # What is wider than the window scrolls in its own place, which the keyboard reaches.
    wide = chromium.run(
        "return [...document.querySelectorAll('main *')].filter(e => e.closest('.wide') === null "
        "&& e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    )
    assert wide == []
    outside = chromium.run(
        "return [...document.querySelectorAll('.js-plotly-plot .xtick text, .js-plotly-plot .ytick "
        "text')].filter(t => { const a = t.getBoundingClientRect(), "
        "b = t.closest('.js-plotly-plot').getBoundingClientRect(); "
        "return a.left < b.left - 1 || a.bottom > b.bottom + 1 }).map(t => t.textContent)"
    )
    assert outside == []


def test_matrix_follows_its_controls(browser, findings, result):
    order = findings.maps.order
    pooled = findings.pooled["grassmann_out"].values[np.ix_(order, order)]
    np.testing.assert_allclose(matrix(browser)[OFF], pooled[OFF], rtol=1e-5)

    browser.choose("matrix-side", "in")
    pooled = findings.pooled["grassmann_in"].values[np.ix_(order, order)]
    np.testing.assert_allclose(matrix(browser)[OFF], pooled[OFF], rtol=1e-5)

    browser.choose("matrix-metric", "rec")
    browser.choose("matrix-order", "given")
    np.testing.assert_allclose(matrix(browser)[OFF], findings.pooled["rec"].values[OFF], rtol=1e-5)
    assert browser.run("return document.getElementById('matrix-side').disabled")
    assert "Rows are sources" in browser.run(
        "return document.getElementById('matrix-plot-text').textContent"
    )

    browser.choose("matrix-layer", "1")
    cells = result["rec"].transpose("layer", "module", "source", "target").values
    step = (np.nanmax(cells[:, :, OFF], axis=2) - np.nanmin(cells[:, :, OFF], axis=2)) / 254
    found = matrix(browser)
    assert np.abs(found - cells[1].mean(axis=0))[OFF].max() <= step[1].max()
    browser.choose("matrix-module", "0")
    assert np.abs(matrix(browser) - cells[1, 0])[OFF].max() <= step[1, 0] * 0.51

    browser.choose("matrix-order", "name")
    names = browser.plot("matrix-plot", "layout.yaxis.ticktext")
    assert names[1:4] == ["narrow", "one", "three &amp; &lt;b&gt;more&lt;/b&gt;"]
    browser.choose("matrix-order", "group")
    assert set(browser.plot("matrix-plot", "layout.yaxis.ticktext")[:3]) == {"one", "two", "narrow"}
    assert browser.console() == []


def test_hovering_tells_the_numbers(browser, findings):
    browser.choose("matrix-order", "given")
    said = browser.plot("matrix-plot", "data[0].text")[0][1]
    own = findings.pooled["grassmann_out"]
    assert said.startswith("one → two")
    for number in (own.values[0, 1], own.low[0, 1], own.high[0, 1], own.chance[0, 1], own.z[0, 1]):
        assert f"{float(f'{number:.4g}'):g}"[:6] in said


def test_names_are_shown_as_they_are(browser):
    shown = browser.run(
        "return [...document.querySelectorAll('#matrix-plot .ytick text')].map(t => t.textContent)"
    )
    assert TASKS[2] in shown
    assert not browser.run("return document.querySelectorAll('.ytick text [style*=bold]').length")


def test_the_keyboard_reaches_the_controls(browser):
    before = browser.plot("matrix-plot", "data[0].z")
    browser.press("matrix-metric", "down")
    assert browser.run("return document.activeElement.id") == "matrix-metric"
    assert browser.plot("matrix-plot", "data[0].z") != before


def test_pairs_show_their_angles_and_spectra(browser, result, findings):
    pairs = browser.run("return page.pairs.map(p => p.tasks)")
    angles = result["angles_out"].transpose("layer", "module", "source", "target", "component")
    spectra = result["spectra"].transpose("layer", "module", "task", "component").values
    for n in (0, len(pairs) - 1):
        browser.choose("pair-pair", str(n))
        i, j = pairs[n]
        shown = browser.plot("angles-out", "data.at(-1).y")
        expected = angles.values[:, :, i, j].mean(axis=(0, 1))
        np.testing.assert_allclose(shown, expected[np.isfinite(expected)], atol=1e-5)
        assert [t["name"] for t in browser.plot("angles-out", "data")[1:3]] == [
            "null, 95% of single modules",
            "null mean",
        ]
        own = spectra[:, :, i].mean(axis=(0, 1))
        shown = browser.plot("spectra-forth", "data[0].y")
        np.testing.assert_allclose(shown, own[np.isfinite(own)], rtol=1e-5)
    browser.choose("pair-layer", "2")
    browser.choose("pair-module", "1")
    shown = browser.plot("angles-out", "data.at(-1).y")
    np.testing.assert_allclose(shown, angles.values[2, 1, i, j][: len(shown)], atol=1e-5)
    rows = browser.run(
        "return [...document.querySelectorAll('#pair-values tbody tr')].map(r => r.textContent)"
    )
    two_ways = sum(not result[name].attrs["symmetric"] for name in findings.pooled)
    assert len(rows) == len(findings.pooled) + two_ways


def test_layers_follow_their_metric(browser, findings):
    first = browser.plot("layers-plot", "data[0].y")
    np.testing.assert_allclose(first, findings.profiles["grassmann_out"][:, 0], rtol=1e-4)
    chance = browser.plot("layers-plot", "data[1].y")
    np.testing.assert_allclose(chance, findings.chance_profiles["grassmann_out"][:, 0], rtol=1e-4)
    browser.choose("layers-metric", "cosine")
    np.testing.assert_allclose(
        browser.plot("layers-plot", "data[0].y"), findings.profiles["cosine"][:, 0], rtol=1e-4
    )


def test_a_resized_window_is_drawn_anew(browser):
    browser.scroll_through()
    wide = browser.plot("pca-plot", "layout.width")
    browser.size(400)
    browser.wait("return due.size > 0")
    browser.scroll_through()
    assert browser.plot("pca-plot", "layout.width") < wide


def test_a_page_without_most_sections_opens_too(chromium, bare, tmp_path):
    path = tmp_path / "bare.html"
    write_page(*bare, path)
    chromium.size(1280)
    chromium.open(path)
    chromium.scroll_through()
    assert chromium.console() == []
    assert chromium.plot("matrix-plot", "data.length") == 1
    assert chromium.run("return document.querySelectorAll('.absent').length") >= 6


def test_a_variable_without_maps_says_how_to_have_them(chromium, result, findings, tmp_path):
    path = tmp_path / "few.html"
    path.write_text(render(result, findings, [(0, 1)], ["rec"]))
    chromium.size(1280)
    chromium.open(path)
    chromium.choose("matrix-layer", "0")
    text = chromium.run("return document.getElementById('matrix-plot-text').textContent")
    assert "jaxtask report … --maps grassmann_out" in text
    chromium.choose("matrix-metric", "rec")
    assert chromium.plot("matrix-plot", "data[0].type") == "heatmap"


def test_tasks_that_share_nothing_or_everything_are_drawn(chromium, tmp_path):
    rng = np.random.default_rng(0)
    B, A = rng.standard_normal((2, 16, 2)).astype("f4")
    same, other = {"layers.0.q": (B, A.T)}, {"embed": (B, A.T)}
    bank = jt.AdapterBank.from_factors({"a": same, "b": same, "c": other, "d": other})
    made = jt.compare(bank, metrics=["grassmann"], keep=["angles"])
    path = tmp_path / "odd.html"
    write_page(made, jt.analyze(made), path)
    chromium.size(400)
    chromium.open(path)
    chromium.scroll_through()
    pairs = chromium.run("return page.pairs.map(p => p.tasks)")
    chromium.choose("pair-pair", str(pairs.index([0, 2])))
    text = chromium.run("return document.getElementById('angles-out-text').textContent")
    assert "share no module here" in text
    chromium.choose("matrix-layer", "0")  # outside layers
    chromium.choose("matrix-order", "given")
    assert matrix(chromium)[2, 3] == pytest.approx(0, abs=1e-3)
    assert np.isnan(matrix(chromium)[0, 1])
    assert chromium.console() == []


def test_data_are_what_json_can_hold(page):
    def refuse(constant):
        raise AssertionError(f"{constant} in the page")

    text = page.read_text().split('id="data">', 1)[1].split("</script>", 1)[0]
    json.loads(text, parse_constant=refuse)
