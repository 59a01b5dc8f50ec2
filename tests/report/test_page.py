"""The page as a file: what is in it, without a browser."""

import base64
import html
import json
import os
import re
from dataclasses import replace

import numpy as np
import pytest

from jaxtask.errors import ReportError
from jaxtask.report.page import render, write_page
from jaxtask.report.page_data import mapped_variables
from jaxtask.report.sections import SECTIONS

from .results import TASKS


def data_of(text):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    return json.loads(found[1])


def section_of(text, name):
    return re.search(rf'<section id="{name}">(.*?)</section>', text, re.S)[1]


def unpacked(stored, symmetric):
    """[T, T] of what `page_data` packs; NaN on the diagonal."""
    T = len(TASKS)
    numbers = np.frombuffer(base64.b64decode(stored), "<f4")
    found = np.full((T, T), np.nan)
    pairs = [(i, j) for i in range(T) for j in range(T) if (i < j if symmetric else i != j)]
    for (i, j), x in zip(pairs, numbers, strict=True):
        found[i, j] = x
        if symmetric:
            found[j, i] = x
    return found


def test_page_holds_the_pooled_numbers(page, findings):
    variables = {v["name"]: v for v in data_of(page.read_text())["variables"]}
    assert list(variables) == list(findings.pooled)
    for name, pooled in findings.pooled.items():
        own = variables[name]
        off = ~np.eye(len(TASKS), dtype=bool)
        found = unpacked(own["pooled"]["values"], own["symmetric"])
        np.testing.assert_allclose(found[off], pooled.values[off], rtol=1e-6)
        for part in ("chance", "z", "p", "low", "high"):
            expected = getattr(pooled, part)
            stored = own["pooled"].get(part)
            if expected is None or not np.isfinite(expected[off]).any():
                assert stored is None
            elif isinstance(stored, float):  # the same for all pairs
                np.testing.assert_allclose(expected[off], stored, rtol=1e-6)
            else:
                both = unpacked(stored, own["symmetric"])
                np.testing.assert_allclose(both[off], expected[off], rtol=1e-6, atol=1e-37)


def test_page_is_one_file_that_asks_for_nothing(page):
    text = page.read_text()
    own = re.sub(r"<script>.*?</script>", "", text, flags=re.S)
    assert not re.search(r'(src|href)="(?!#|data:)', own)
    assert "default-src 'none'" in own
    assert text.count("* plotly.js v") == 1
    assert page.stat().st_size < 6e6


def test_names_are_text_and_never_markup(page):
    text = page.read_text()
    assert "<b>more" not in re.sub(r"<script>.*?</script>", "", text, flags=re.S)
    assert html.escape(TASKS[2]) in text
    assert data_of(text)["tasks"] == list(TASKS)


def test_every_section_is_there_and_says_its_numbers(page, findings):
    text = page.read_text()
    for name in SECTIONS:
        assert section_of(text, name).strip()
    said = html.unescape(text)
    apart = findings.separation
    assert f"{apart.mean_silhouette:.3f}" in section_of(said, "overview")
    assert f"{findings.maps.stress:.2f}" in section_of(said, "maps")
    assert "one → two" in section_of(said, "table")
    assert "jaxtask compare …" in section_of(said, "provenance")
    for note in findings.notes:
        assert note in section_of(said, "overview")


def test_what_is_missing_is_named_with_the_option_that_computes_it(bare):
    text = render(*bare, [(0, 1)], ["cosine"])
    for name, option in [
        ("maps", "--metrics grassmann"),
        ("clusters", "--metrics grassmann"),
        ("inclusion", "--metrics energy_core,rec,residual"),
        ("pairs", "--keep angles"),
        ("pairs", "--keep spectra"),
        ("table", "--metrics spectral_l1,rec,entropy_source,entropy_projected"),
    ]:
        assert option in section_of(text, name), name
    data = data_of(text)
    assert (data["maps"], data["graph"], data["groups"]) == (None, None, None)


def test_maps_fill_the_room_there_is(result, findings, monkeypatch):
    names = list(findings.pooled)
    assert set(mapped_variables(result, names)) == set(names)
    cells = result.sizes["layer"] * result.sizes["module"]
    pairs = len(TASKS) * (len(TASKS) - 1)
    monkeypatch.setattr("jaxtask.report.page_data.MAP_BYTES", 4 * pairs * cells // 3)
    chosen = mapped_variables(result, names)
    assert chosen == ["grassmann_out", "grassmann_in"]  # two symmetric ones take as much as one
    text = render(result, findings, [(0, 1)], chosen)
    assert [v["name"] for v in data_of(text)["variables"] if "maps" in v] == chosen
    assert "jaxtask report … --maps" in section_of(text, "matrix")


def test_pairs_without_a_value_are_holes(result, findings):
    own = findings.pooled["grassmann_out"]
    values = own.values.copy()
    values[0, 1] = values[1, 0] = np.nan
    changed = replace(own, values=values, z=None, low=np.full_like(values, np.nan))
    lacking = replace(findings, pooled={**findings.pooled, "grassmann_out": changed})
    data = data_of(render(result, lacking, [(0, 1)], []))
    (found,) = (v["pooled"] for v in data["variables"] if v["name"] == "grassmann_out")
    assert np.isnan(unpacked(found["values"], symmetric=True)[0, 1])
    assert "z" not in found
    assert "low" not in found


def test_writing_replaces_only_when_asked_and_leaves_nothing_half(
    result, findings, tmp_path, monkeypatch
):
    path = tmp_path / "report.html"
    write_page(result, findings, path)
    before = path.read_bytes()
    with pytest.raises(ReportError, match="exists; give overwrite=True"):
        write_page(result, findings, path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ReportError, match=r"report\.html cannot be written: No space left"):
        write_page(result, findings, path, pairs=[(0, 1)], overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("target", "words"),
    [("no/report.html", "no folder that can be written to"), (".", "it is a folder")],
)
def test_places_that_cannot_be_written(target, words, result, findings, tmp_path):
    with pytest.raises(ReportError, match=words):
        write_page(result, findings, tmp_path / target)


def test_unknown_variables_for_maps(result, findings, tmp_path):
    with pytest.raises(ReportError, match=r"no pooled variable 'recc' .*rec"):
        write_page(result, findings, tmp_path / "r.html", with_maps=["recc"])
    assert not list(tmp_path.iterdir())
