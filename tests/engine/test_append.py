"""Adapters added to a finished result: as if all had been compared at once."""

import numpy as np
import pytest

import jaxtask as jt
from chunks import assert_same_bits
from jaxtask.engine import backend as host
from jaxtask.engine import plan
from jaxtask.engine.staging import Draft
from makers import near_update, orthonormal, random_update, spectrum

D_OUT, D_IN, R = 36, 28, 3
TOLERANCE = 2e-6
"""As for tiles of other widths: programs for other numbers of pairs may round differently."""


def factors(tasks=9):
    """Tasks near each other and not; some modules are lacking, and one comes with a late task."""
    rng = np.random.default_rng(0)
    U, V = orthonormal(rng, D_OUT, R), orthonormal(rng, D_IN, R)
    every = {}
    for t in range(tasks):
        near = near_update(rng, U, spectrum(R), V, (1e-5, 1e-2, 0.2), np.float32, drift=0.1)
        every[f"t{t}"] = {
            "layers.0.q": near,
            "layers.1.q": random_update(rng, D_OUT, D_IN, 1 + t % R, np.float32),
            "layers.1.down": random_update(rng, D_IN, D_OUT, R, np.float32),
        }
    del every["t1"]["layers.0.q"]
    del every["t7"]["layers.1.down"]
    every["t8"]["layers.2.late"] = random_update(rng, 20, 24, R, np.float32)
    return every


def first(every, n):
    return {name: every[name] for name in list(every)[:n]}


def compare(every, path, **options):
    return jt.compare(jt.AdapterBank.from_factors(every), out=path, **options)


@pytest.mark.slow
@pytest.mark.parametrize(("known", "columns"), [(6, 4 * R), (1, 1024)])
def test_added_is_as_good_as_at_once(known, columns, tmp_path, monkeypatch):
    """In one block and in many."""
    monkeypatch.setattr(plan, "CPU", plan.CPU._replace(tile_columns=columns))
    every = factors()
    options = {"metrics": ["grassmann", "containment", "rec"], "keep": ["angles", "spectra"]}
    whole = jt.compare(jt.AdapterBank.from_factors(every), **options)
    compare(first(every, known), tmp_path / "r.zarr", **options)
    # The order in which they are given does not matter: those that are there come first.
    shuffled = {name: every[name] for name in sorted(every, reverse=True)}
    compare(shuffled, tmp_path / "r.zarr", append=True, **options)
    ds = jt.open_result(tmp_path / "r.zarr")
    assert ds["task"].values.tolist()[:known] == list(every)[:known]
    ds = ds.sel(source=list(every), target=list(every), task=list(every)).load()
    assert list(ds.data_vars) == list(whole.data_vars)
    for name, expected in whole.data_vars.items():
        np.testing.assert_allclose(ds[name], expected, rtol=TOLERANCE, atol=TOLERANCE, err_msg=name)
    assert [p.name for p in tmp_path.iterdir()] == ["r.zarr"]


@pytest.mark.slow
def test_added_one_by_one_is_the_same_to_the_last_bit(tmp_path):
    """For what native code computes pair by pair, and pairs that were there are copied."""
    if not host.runs_natively():
        pytest.skip("no native library")
    every, options = factors(), {"metrics": ["grassmann"], "keep": ["angles"]}
    compare(every, tmp_path / "whole.zarr", **options)
    compare(first(every, 5), tmp_path / "r.zarr", **options)
    for n in range(6, 10):
        compare(first(every, n), tmp_path / "r.zarr", append=True, **options)
    assert_same_bits(tmp_path / "r.zarr", tmp_path / "whole.zarr")


def test_only_new_pairs_are_compared(tmp_path, monkeypatch):
    every, seen = factors(), []
    compare(first(every, 6), tmp_path / "r.zarr", metrics="cosine")
    start = host.Host.start

    def counting(self, tiles, plan):
        seen.extend(len(tile.pairs) for tile in tiles)
        return start(self, tiles, plan)

    monkeypatch.setattr(host.Host, "start", counting)
    said = []
    compare(
        every,
        tmp_path / "r.zarr",
        metrics="cosine",
        append=True,
        progress=lambda *now: said.append(now),
    )
    new = sum(n * (n + 1) // 2 for n in (8, 9, 8, 1)) - sum(n * (n + 1) // 2 for n in (5, 6, 6))
    assert sum(seen) == new
    assert said[-1] == (new, new)


def test_nothing_new_is_no_work(tmp_path):
    compare(first(factors(), 3), tmp_path / "r.zarr", metrics="cosine")
    before = (tmp_path / "r.zarr" / "zarr.json").stat().st_ino
    ds = compare(first(factors(), 3), tmp_path / "r.zarr", metrics="cosine", append=True)
    assert ds.sizes["task"] == 3
    assert (tmp_path / "r.zarr" / "zarr.json").stat().st_ino == before
    assert [p.name for p in tmp_path.iterdir()] == ["r.zarr"]


def test_the_old_result_stands_until_all_is_there(tmp_path):
    every, path = factors(), tmp_path / "r.zarr"
    compare(first(every, 5), path, metrics="cosine")

    def stop(done, total):
        if done > total * 0.8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(every, path, metrics="cosine", append=True, progress=stop)
    assert jt.open_result(path).sizes["task"] == 5
    assert Draft(path).done()
    # Other calls leave it alone, whether there is something to do or not.
    assert compare(first(every, 5), path, metrics="cosine", append=True).sizes["task"] == 5
    with pytest.raises(jt.ResultError, match=r"not given: t7, t8; .*remove it"):
        compare(first(every, 7), path, metrics="cosine", append=True)
    assert Draft(path).done()
    compare(every, path, metrics="cosine", append=True)
    compare(every, tmp_path / "whole.zarr", metrics="cosine")
    for name in ("cosine", "valid", "frobenius"):
        found, whole = (jt.open_result(p)[name] for p in (path, tmp_path / "whole.zarr"))
        np.testing.assert_allclose(found, whole, atol=TOLERANCE)


def test_what_cannot_be_added_to(tmp_path):
    every, path = factors(), tmp_path / "r.zarr"
    with pytest.raises(jt.ResultError, match="no such result to add"):
        compare(every, path, append=True)
    with pytest.raises(jt.JaxtaskError, match="needs `out`"):
        jt.compare(jt.AdapterBank.from_factors(every), append=True)
    compare(first(every, 5), path, metrics="cosine")
    with pytest.raises(jt.ResultError, match="exclude each other"):
        compare(every, path, append=True, overwrite=True)
    with pytest.raises(jt.ResultError, match="not given: t0"):
        compare({name: every[name] for name in ("t1", "t5")}, path, metrics="cosine", append=True)
    with pytest.raises(jt.ResultError, match=r"metrics .*cosine.* there, .*grassmann.* now"):
        compare(every, path, metrics="grassmann", append=True)
    B, A = every["t2"]["layers.1.q"]
    other = B.copy()
    other[0, 0] += 1e-6
    changed = every | {"t2": every["t2"] | {"layers.1.q": (other, A)}}
    with pytest.raises(jt.ResultError, match="with other numbers: t2"):
        compare(changed, path, metrics="cosine", append=True)
    assert jt.open_result(path).sizes["task"] == 5
    assert [p.name for p in tmp_path.iterdir()] == ["r.zarr"]
    saved = tmp_path / "saved.zarr"
    jt.save(jt.compare(jt.AdapterBank.from_factors(first(every, 5)), metrics="cosine"), saved)
    with pytest.raises(jt.ResultError, match="not recorded"):
        compare(every, saved, metrics="cosine", append=True)
