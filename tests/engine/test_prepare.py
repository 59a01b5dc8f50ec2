"""What is known of a comparison before its numbers: made once, and saying what computes them."""

import json
from collections import Counter

import pytest

import jaxtask as jt
from jaxtask.engine import prepare as preparing
from jaxtask.engine.estimate import estimate
from jaxtask.engine.prepare import prepare
from jaxtask.engine.staging import Draft
from jaxtask_kernels import backends, native
from makers import random_bank


def bank(tasks=4, r=3):
    shapes = {f"layers.{n}.q": (24, 20, r) for n in range(6)}
    return random_bank([f"t{t}" for t in range(tasks)], shapes)


@pytest.fixture
def made(monkeypatch):
    """How often each part of a comparison is made from now on."""
    counted = Counter()

    def counting(name, function):
        def call(*arguments):
            counted[name] += 1
            return function(*arguments)

        return call

    for name in ("attributes", "layout", "plans"):
        monkeypatch.setattr(preparing, name, counting(name, getattr(preparing, name)))
    return counted


ONCE = {"attributes": 1, "layout": 1, "plans": 1}
METRICS = ["grassmann", "cosine"]


def test_in_memory(made):
    jt.compare(bank(), metrics=METRICS)
    assert made == ONCE


def test_on_disk_resumed_and_added_to(made, tmp_path):
    path = tmp_path / "r.zarr"

    def stop(done, total):
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jt.compare(bank(3), metrics=METRICS, out=path, progress=stop)
    assert made == ONCE
    for tasks in (3, 4):
        made.clear()
        jt.compare(bank(tasks), metrics=METRICS, out=path, append=path.exists())
        assert made == ONCE


@pytest.mark.parametrize("append", [False, True])
def test_estimated(append, made, tmp_path):
    path = tmp_path / "r.zarr"
    jt.compare(bank(3), metrics=METRICS, out=path)
    made.clear()
    estimate(prepare(bank(), metrics=METRICS), path, append=append)
    assert made == ONCE


# --------------------------------------------------------------------------- what computes numbers

OTHER = backends.Backend("another", backends.platform_svd, sizes=range(3, 4), lapack=True)


def cut_off(path):
    def stop(done, total):
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jt.compare(bank(), metrics=METRICS, out=path, progress=stop)
    assert Draft(path).done()


def test_numbers_of_two_kernels_are_not_mixed(tmp_path, monkeypatch):
    path, whole = tmp_path / "r.zarr", tmp_path / "whole.zarr"
    jt.compare(bank(3), metrics=METRICS, out=whole)
    cut_off(path)
    with monkeypatch.context() as patched:
        patched.setattr(backends, "BACKENDS", (OTHER, *backends.BACKENDS))
        said = "kernels .*up to 3: another"
        with pytest.raises(jt.ResultError, match=f"unfinished .*{said}.* now"):
            jt.compare(bank(), metrics=METRICS, out=path)
        with pytest.raises(jt.ResultError, match=f"with the same settings.*{said}"):
            jt.compare(bank(), metrics=METRICS, out=whole, append=True)
    ds = jt.compare(bank(), metrics=METRICS, out=path)
    assert "another" not in ds.attrs["kernels"]


def test_programs_with_lapack_do_not_run_side_by_side(monkeypatch):
    beside = {plan.side_by_side for plan in prepare(bank(), metrics="grassmann").plans.values()}
    assert beside == {native.threads() if native.native().library is not None else 1}
    monkeypatch.setattr(backends, "BACKENDS", (OTHER, *backends.BACKENDS))
    beside = {plan.side_by_side for plan in prepare(bank(), metrics="grassmann").plans.values()}
    assert beside == {1}


def test_what_does_not_say_its_kernels_is_gone_on_with(tmp_path):
    """As results and drafts of earlier versions do not."""
    path, whole = tmp_path / "r.zarr", tmp_path / "whole.zarr"
    cut_off(path)
    manifest = Draft(path).folder / "manifest.json"
    begun = json.loads(manifest.read_text())
    del begun["identity"]["kernels"]
    manifest.write_text(json.dumps(begun))
    done = Draft(path).done()
    said = []
    jt.compare(bank(), metrics=METRICS, out=path, progress=lambda *now: said.append(now))
    assert said[0] == (len(done) * 10, 60)
    jt.compare(bank(3), metrics=METRICS, out=whole)
    group = whole / "zarr.json"
    about = json.loads(group.read_text())
    del about["attributes"]["kernels"]
    group.write_text(json.dumps(about))
    ds = jt.compare(bank(), metrics=METRICS, out=whole, append=True)
    assert ds.sizes["task"] == 4
    assert ds.attrs["kernels"] == prepare(bank()).attributes["kernels"]
