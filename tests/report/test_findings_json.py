"""Findings are read as they were written; damaged ones, older ones and those of others are not."""

import json
import math
import shutil
from dataclasses import fields, is_dataclass, replace
from functools import partial

import numpy as np
import pytest

import jaxtask as jt
import shell
from jaxtask.analysis.findings import check_origin
from jaxtask.cli.report import report
from jaxtask.report.findings import write_findings
from jaxtask.report.page import write_page

from .results import GROUPS


@pytest.fixture(scope="module")
def folder(findings, tmp_path_factory):
    path = tmp_path_factory.mktemp("findings") / "found"
    write_findings(findings, path)
    return path


def changed(folder, tmp_path, change):
    """The findings in a folder of their own, with their JSON changed."""
    told = json.loads((folder / "findings.json").read_text())
    change(told)
    (tmp_path / "findings.json").write_text(json.dumps(told))
    return tmp_path


def assert_same(one, other, where="findings"):
    assert type(one) is type(other), where
    if is_dataclass(one):
        for field in fields(one):
            name = field.name
            assert_same(getattr(one, name), getattr(other, name), f"{where}.{name}")
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype, where
        np.testing.assert_array_equal(one, other, err_msg=where, strict=True)
    elif isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for n, both in enumerate(zip(one, other, strict=True)):
            assert_same(*both, f"{where}[{n}]")
    elif isinstance(one, float) and math.isnan(one):
        assert math.isnan(other), where
    else:
        assert one == other, where


def test_what_is_read_is_what_was_written(findings, folder):
    assert findings.separation
    assert findings.inclusion
    assert findings.maps
    assert_same(jt.read_findings(folder), findings)


def test_findings_without_parts_are_read(findings, bare, tmp_path):
    # No table can be written of these.
    less = replace(findings, groups=None, separation=None, inclusion=None, maps=None, notes=())
    write_findings(less, tmp_path / "less")
    assert_same(jt.read_findings(tmp_path / "less"), less)


def test_infinities_and_zeros_keep_their_sign(findings, tmp_path):
    values = findings.pooled["rec"].values.copy()
    values[0, 1:4] = math.inf, -math.inf, -0.0
    odd = {**findings.pooled, "rec": replace(findings.pooled["rec"], values=values)}
    write_findings(replace(findings, pooled=odd), tmp_path / "odd")
    read = jt.read_findings(tmp_path / "odd").pooled["rec"].values
    np.testing.assert_array_equal(read, values)
    assert np.signbit(read[0, 3])


def test_a_page_of_findings_that_were_read_is_the_same(result, findings, page, folder, tmp_path):
    write_page(result, jt.read_findings(folder), tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()


def test_findings_fit_their_result_in_memory_and_on_disk(result, folder, tmp_path):
    jt.save(result, tmp_path / "r.zarr")
    for ds in (result, jt.open_result(tmp_path / "r.zarr")):
        check_origin(jt.read_findings(folder), ds)


def test_findings_of_another_result_are_refused(result, findings):
    norms = result["frobenius"].copy(data=result["frobenius"].values * 1.01)
    others = {
        "tasks": result.isel(source=[0, 1, 2], target=[0, 1, 2], task=[0, 1, 2]),
        "names": result.assign_coords({"source": list("abcde"), "target": list("abcde")}),
        "layers": result.isel(layer=[0]),
        "variables": result.drop_vars("rec"),
        "dtype": result.assign_attrs(dtype="float64"),
        "adapters": result.assign_attrs(adapters='{"notes": []}'),
        "updates_sha256": result.assign(frobenius=norms),
    }
    for key, other in others.items():
        with pytest.raises(jt.AnalysisError, match=f"of another result: {key}: found .* expected"):
            check_origin(findings, other)


BROKEN = {
    "an older file": (lambda f: f.pop("format"), r"format: found None, expected 'jaxtask find"),
    "a newer file": (lambda f: f.update(format="jaxtask findings 2"), "format: found"),
    "no tasks": (lambda f: f.pop("tasks"), "tasks: found None, expected a value"),
    "one key more": (lambda f: f.update(more=1), "more: found 1, expected no such key"),
    "tasks of another type": (lambda f: f.update(tasks=3), "tasks: found 3, expected a list"),
    "a task that is no text": (lambda f: f["tasks"].__setitem__(1, 2), r"tasks\[1\]: found 2"),
    "too few tasks": (lambda f: f["tasks"].pop(), "pooled.*found .*, expected a list of 4"),
    "pooled of another type": (lambda f: f.update(pooled=[]), "pooled: found .*a mapping"),
    "pooled without a part": (
        lambda f: f["pooled"]["rec"].pop("low"),
        r"pooled.rec.low: found None, expected a value",
    ),
    "a side that is none": (
        lambda f: f["pooled"]["rec"].update(towards="left"),
        "pooled.rec.towards: found 'left', expected 'large' or 'small'",
    ),
    "a number that is a text": (
        lambda f: f["pooled"]["rec"]["values"][0].__setitem__(1, "1.5"),
        "pooled.rec.values: found '1.5', expected a number or null",
    ),
    "a row too short": (
        lambda f: f["pooled"]["rec"]["values"][0].pop(),
        "pooled.rec.values: found .* expected a list of 5",
    ),
    "a count that is none": (
        lambda f: f["cells"]["rec"].update(tested=1.5),
        "cells.rec.tested: found 1.5, expected a whole number",
    ),
    "a setting that is none": (
        lambda f: f["about"].update(resamples=[[]]),
        r"about.resamples: found \[\[\]\], expected a whole number",
    ),
    "a flag that is none": (
        lambda f: f["separation"]["test"].update(exact=1),
        "separation.test.exact: found 1, expected true or false",
    ),
    "an edge to nowhere": (
        lambda f: f["inclusion"].update(edges=[[0, 5]]),
        "inclusion: found the task number 5, expected 0 to 4",
    ),
    "an edge with three ends": (
        lambda f: f["inclusion"].update(edges=[[0, 1, 2]]),
        r"inclusion.edges\[0\]: found .* expected 2 values",
    ),
    "leaves twice": (lambda f: f["maps"].update(order=[0, 0, 1, 2, 3]), "maps: found an order"),
    "a group of a stranger": (lambda f: f["groups"].update(zed="x"), "the task 'zed'"),
    "a variable that is none": (lambda f: f["maps"].update(variable="x"), "the variable 'x'"),
    "agreement of one": (
        lambda f: f["agreement"].update(rec=1.0),
        "agreement: found 'rec', expected keys such as 'rec ~ cosine'",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_damaged_findings_are_refused(case, folder, tmp_path):
    change, message = BROKEN[case]
    path = changed(folder, tmp_path, change)
    with pytest.raises(jt.AnalysisError, match=message) as refused:
        jt.read_findings(path)
    assert str(refused.value).startswith(f"{path / 'findings.json'}: ")


def test_what_is_no_folder_of_findings_is_refused(tmp_path):
    with pytest.raises(jt.AnalysisError, match=r"findings\.json: no such file"):
        jt.read_findings(tmp_path)
    (tmp_path / "findings.json").write_text("[1]")
    with pytest.raises(jt.AnalysisError, match="holds a list, expected a JSON object"):
        jt.read_findings(tmp_path)


run = partial(shell.here, report)


def test_a_report_takes_findings(result, page, folder, tmp_path, monkeypatch):
    jt.save(result, tmp_path / "r.zarr")
    page_of = ("--out", tmp_path / "r.html", "--findings", folder)

    def refuse(*_):
        raise AssertionError("analyzed again")

    monkeypatch.setattr(jt, "analyze", refuse, raising=False)
    assert "Written" in run(tmp_path / "r.zarr", *page_of)
    written = (tmp_path / "r.html").read_text()
    assert all(group in written for group in GROUPS)
    assert "PERMANOVA" in written
    told = run(tmp_path / "r.zarr", *page_of, "--overwrite", "--groups", tmp_path / "g.yaml")
    assert "--groups and --findings: found both" in told
    shutil.rmtree(tmp_path / "r.zarr")
    jt.save(result.isel(layer=[0]), tmp_path / "r.zarr")
    assert "of another result: layers" in run(tmp_path / "r.zarr", *page_of, "--overwrite")
    assert (tmp_path / "r.html").read_text() == written
