"""`jaxtask analyze`, run as a user runs it: files, tables, and one clear line for bad input."""

import csv
import json
from functools import partial

import numpy as np
import pytest

import jaxtask as jt
import shell
from jaxtask.cli.analyze import analyze
from planted import write_family

GROUPS = """
a: [topic-a1, topic-a2, topic-a3, topic-a1-again, topic-a-narrow]
b: [topic-b1, topic-b2]
"""


run = partial(shell.here, analyze)


def lines(path):
    """The lines of a CSV file, by column."""
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("analyze")
    write_family(home / "family")
    bank = jt.load_adapters([str(home / "family")])
    metrics = ["grassmann", "cosine", "spectral_l1", "rec", "entropy_source", "entropy_projected",
               "energy_core", "residual"]  # fmt: skip
    jt.compare(bank, metrics=metrics, keep=["spectra"], out=home / "result.zarr")
    jt.compare(bank, metrics=["cosine"], out=home / "cosine.zarr")
    (home / "groups.yaml").write_text(GROUPS)
    return home


@pytest.fixture(scope="module")
def printed(folder):
    pairs = "topic-a1:topic-a-narrow,topic-b1:topic-b2"
    options = ["--groups", folder / "groups.yaml", "--pairs", pairs]
    return run(folder / "result.zarr", *options, "--out", folder / "findings")


@pytest.mark.slow
def test_what_is_printed(folder, printed):
    for words in (
        "7 adapters of planted: 4 layers, 2 module types",
        "topic-a1 and topic-a1-again",
        "By grassmann_out, the groups are separated: PERMANOVA F =",
        "(all labelings)",
        "topic-a1 captures 100.0% of topic-a-narrow's update beyond the null; topic-a-narrow",
        "topic-a1 → topic-a-narrow",
        f"Written: {folder / 'findings'}",
    ):
        assert words in printed


def test_all_numbers_are_in_the_folder(folder, printed):
    out = folder / "findings"
    found = jt.analyze(
        jt.open_result(folder / "result.zarr"), {"a": ["topic-a1"], "b": ["topic-b1", "topic-b2"]}
    )
    told = json.loads((out / "findings.json").read_text())
    assert told["tasks"] == list(found.tasks)
    assert told["groups"]["topic-a-narrow"] == "a"
    pooled = found.pooled["grassmann_out"]
    values = np.array(told["pooled"]["grassmann_out"]["values"], float)
    np.testing.assert_allclose(values, pooled.values)
    assert told["pooled"]["grassmann_out"]["p"][0][0] is None
    assert told["inclusion"]["direction"][0][1] in ("includes", "included", "equal", "neither")
    rows = lines(out / "pooled/rec.csv")
    assert len(rows) == 7 * 6
    i, j = (found.tasks.index(rows[3][name]) for name in ("source", "target"))
    assert float(rows[3]["value"]) == pytest.approx(found.pooled["rec"].values[i, j], rel=1e-6)
    assert float(rows[3]["chance"]) == pytest.approx(found.pooled["rec"].chance[i, j], rel=1e-6)
    rows = lines(out / "inclusion.csv")
    one = next(r for r in rows if (r["source"], r["target"]) == ("topic-a1", "topic-a-narrow"))
    assert one["direction"] == "includes"
    assert float(one["part_energy_core"]) == pytest.approx(1, abs=1e-4)
    assert "## Separation of groups" in (out / "summary.md").read_text()


def test_the_talks_table(folder, printed):
    out = folder / "findings"
    rows = lines(out / "table.csv")
    assert [(r["source"], r["target"]) for r in rows] == [
        ("topic-a1", "topic-a-narrow"),
        ("topic-b1", "topic-b2"),
    ]
    columns = ("L1", "L1 chance", "REC", "REC chance", "H(S1)", "H(S2)", "H(S2) chance")
    assert all(np.isfinite(float(row[name])) for row in rows for name in columns)
    ds = jt.open_result(folder / "result.zarr")
    expected = jt.pool(ds, "rec").sel(source="topic-b1", target="topic-b2")
    assert float(rows[1]["REC"]) == pytest.approx(float(expected), rel=1e-5)
    latex = (out / "table.tex").read_text()
    assert latex.startswith(r"\begin{tabular}{lrrrr}" + "\n\\toprule")
    assert r"topic-b1 $\rightarrow$ topic-b2 & " in latex
    assert f"{float(rows[1]['REC']):.3f} ({float(rows[1]['REC chance']):.3f})" in latex
    assert "topic-b1 → topic-b2" in (out / "table.txt").read_text()


def test_names_are_escaped_in_latex():
    from jaxtask.report.talk import talk_latex

    row = {"source": r"a_b\c", "target": "50%~^", "L1": 1.0, "L1 chance": float("nan"),
           "REC": 0.5, "H(S1)": 0.1, "H(S2)": float("nan")}  # fmt: skip
    text = talk_latex([row])
    assert r"a\_b\textbackslash{}c $\rightarrow$ 50\%\textasciitilde{}\textasciicircum{}" in text
    assert "1.000 & 0.500 & 0.100 & –" in text


def test_json_is_all_of_standard_output(folder):
    told = json.loads(run(folder / "cosine.zarr", "--json"))
    assert told["pooled"]["cosine"]["chance"][0][1] == 0
    assert told["separation"] is None


def test_folders_are_replaced_only_if_asked(folder, printed, tmp_path):
    result, out = folder / "cosine.zarr", tmp_path / "out"
    run(result, "--out", out)
    before = (out / "findings.json").read_text()
    assert "give overwrite=True to replace it" in run(result, "--out", out)
    run(folder / "result.zarr", "--out", out, "--overwrite")
    assert (out / "findings.json").read_text() != before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    other = tmp_path / "other"
    other.mkdir()
    assert (
        "is not a folder of findings that jaxtask wrote (it has no findings.json); it is left alone"
        in run(result, "--out", other, "--overwrite")
    )
    assert "no folder that can be written to" in run(result, "--out", tmp_path / "no" / "out")


def test_nothing_stays_of_what_fails(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("jaxtask.report.findings.summary", lambda findings: 1 / 0)
    found = jt.analyze(jt.open_result(folder / "cosine.zarr"))
    from jaxtask.report.findings import write_findings

    with pytest.raises(ZeroDivisionError):
        write_findings(found, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ("a: [topic-a1, topic-a9]\nb: [topic-b1]", "no task 'topic-a9' in the result; did"),
        ("a: [topic-a1, topic-b1]\nb: [topic-b1]", "task 'topic-b1' is in groups 'a' and 'b'"),
        ("a: [topic-a1, topic-b1]", "groups: found 1 with tasks in it, expected two or more"),
        ("[a, b]", "groups.yaml: found list, expected groups: {group: [task, …]}"),
        ("a: topic-a1\nb: [topic-b1]", "groups.yaml: group 'a': expected a list of task names"),
        ("a: [", "groups.yaml: is not valid YAML: line 1, column 5: while parsing"),
    ],
)  # fmt: skip
def test_groups_that_do_not_fit(folder, tmp_path, groups, message):
    (tmp_path / "groups.yaml").write_text(groups)
    told = run(folder / "result.zarr", "--groups", tmp_path / "groups.yaml")
    assert message in told
    assert "\n" not in told


def test_other_bad_input(folder, tmp_path):
    result = folder / "result.zarr"
    groups = ["--groups", folder / "groups.yaml"]
    told = run(folder / "cosine.zarr", *groups)
    assert "groups need a distance" in told
    assert "`jaxtask compare … --metrics grassmann` computes one" in told
    assert "no task 'topic-a9'" in run(result, "--pairs", "topic-a9:topic-a1")
    assert "expected one of pdf, png, svg, together with --out" in run(result, "--format", "pdf")
    assert "no distance 'martin_out'" in run(result, "--distance", "martin_out")
    assert "unknown weights 'x'" in run(result, "--weights", "x")
    assert "no such result" in run(tmp_path / "none.zarr")
    assert "none.yaml: no such file" in run(result, "--groups", tmp_path / "none.yaml")
    one = jt.load_adapters([str(folder / "family/topic-a1")])
    jt.compare(one, metrics="grassmann", out=tmp_path / "one.zarr")
    assert "one adapter (topic-a1); findings need two or more" in run(tmp_path / "one.zarr")


@pytest.mark.process
@pytest.mark.slow
def test_the_installed_command_knows_it(folder):
    done = shell.run("analyze", folder / "cosine.zarr", "--distance", "x", code=1)
    assert done.stderr.startswith("jaxtask: the result has no distance 'x' (there: none)")
    assert len(done.stderr.splitlines()) == 1


def test_a_group_of_one_has_no_distance_within(folder, tmp_path):
    (tmp_path / "groups.yaml").write_text("a: [topic-a1, topic-a2]\nb: [topic-b1]\n")
    text = run(folder / "result.zarr", "--groups", tmp_path / "groups.yaml")
    assert "within a;" in text
    assert "within b" not in text
    assert "nan" not in text
