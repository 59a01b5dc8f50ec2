"""How the work is cut up must not show in the numbers: budgets, tiles, chunks, missing modules."""

import numpy as np
import pytest

import jaxtask as jt
import oracles
from jaxtask.engine import backend as host
from jaxtask.engine import plan as planning
from jaxtask.engine.backend import runs_natively
from jaxtask.engine.prepare import plans
from jaxtask.engine.spec import ComparisonSpec
from jaxtask.metrics import resolve
from makers import near_update, orthonormal, random_update, spectrum

T, D_OUT, D_IN, R = 11, 36, 28, 3
METRICS = ("grassmann", "martin", "containment", "residual")
BIG = 1 << 30
TOLERANCE = {"float32": 2e-6, "float64": 1e-12}
"""A pair may meet its residual sines in one batch and not in another, and a last digit with it."""


def factors(stored=np.float32, third_shape=(D_OUT, D_IN)):
    """Eleven tasks, some near each other, and three modules, one of a shape of its own if asked."""
    rng = np.random.default_rng(0)
    U, V = orthonormal(rng, D_OUT, R), orthonormal(rng, D_IN, R)
    every = {}
    for i in range(T):
        near = near_update(rng, U, spectrum(R), V, (1e-5, 1e-2, 0.2), stored, drift=0.1)
        other = random_update(rng, D_OUT, D_IN, 1 + i % R, stored)
        third = random_update(rng, *third_shape, R, stored)
        every[f"t{i}"] = {
            "layers.0.q": near if i % 3 else other,
            "layers.1.q": other,
            "layers.1.down": third,
        }
    return every


def run(every, budget, dtype="float32", **options):
    bank = jt.AdapterBank.from_factors(every)
    return jt.compare(
        bank, metrics=METRICS, keep=["angles"], memory_budget=budget, dtype=dtype, **options
    )


def cut(every, budget, dtype="float32"):
    """Blocks and blocks kept of every module under this budget."""
    spec = ComparisonSpec(resolve(METRICS), dtype=dtype, keep=("angles",))
    return list(plans(jt.AdapterBank.from_factors(every), spec, budget).values())


def smallest(every, dtype="float32"):
    """The least budget [bytes] that is accepted."""
    low, high = 0, BIG
    while high - low > 1:
        middle = (low + high) // 2
        try:
            cut(every, middle, dtype)
            high = middle
        except jt.JaxtaskError:
            low = middle
    return high


def assert_equal(name, found, expected, dtype):
    """Absolute and relative, more for `martin` where a last digit of an angle weighs more."""
    slope = oracles.martin_slope(expected) if name.startswith("martin") else 1.0
    both = np.isnan(found) == np.isnan(expected)
    assert both.all(), name
    same = np.isclose(found, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * slope)
    assert (same | np.isnan(expected)).all(), name


def assert_same(found, expected, dtype):
    for name, values in expected.data_vars.items():
        assert_equal(name, found[name].values, values.values, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_budget_does_not_show(dtype, backend):
    """One block, a few, or one task a block and fewer blocks kept than needed: equal numbers."""
    every = factors(dtype)
    whole = run(every, BIG, dtype)
    least = smallest(every, dtype)
    assert all(p.blocks == 1 for p in cut(every, BIG, dtype))
    assert all(p.block == 1 and p.blocks_kept < p.blocks for p in cut(every, least, dtype))
    between = next(b for b in range(least, BIG, 512) if 1 < cut(every, b, dtype)[0].block < T // 2)
    for budget in (least, between) if dtype == "float32" else (least,):
        assert_same(run(every, budget, dtype), whole, dtype)


@pytest.mark.slow
def test_chunks_do_not_show(monkeypatch, backend):
    """Chunks of 4 pairs and of 1 update against everything at once."""
    every = factors()
    whole = run(every, BIG)
    per_pair = R * R * (4 * 8 + 3 * 8) * 2
    small = planning.CPU._replace(chunk_bytes=4 * per_pair, wide_bytes=1)
    monkeypatch.setattr(planning, "CPU", small)
    assert {(p.pair_chunk, p.factor_chunk) for p in cut(every, BIG)} == {(4, 1)}
    assert_same(run(every, BIG), whole, "float32")


@pytest.mark.skipif(not runs_natively(), reason="needs programs without LAPACK; see `after`")
@pytest.mark.parametrize("ahead", [1, 2])
def test_tiles_under_way_while_others_are_prepared(ahead, monkeypatch):
    """As on an accelerator."""
    every = factors()
    monkeypatch.setattr(planning, "CPU", planning.CPU._replace(tile_columns=5 * R))
    whole = run(every, BIG)
    started, most = [], []
    start = host.Host.start

    def counting(self, tiles, plan):
        wait = start(self, tiles, plan)
        started.append(wait)
        most.append(len(started))

        def waiting():
            started.remove(wait)
            return wait()

        return waiting

    monkeypatch.setattr(host.Host, "start", counting)
    monkeypatch.setattr(host.Host, "ahead", ahead)
    found = run(every, BIG)
    assert max(most) == ahead + 1
    assert not started
    for name, values in whole.data_vars.items():
        np.testing.assert_array_equal(found[name].values, values.values)


def test_tiles_of_any_width(monkeypatch):
    """Blocks of a width that does not divide the number of tasks."""
    every = factors()
    whole = run(every, BIG)
    monkeypatch.setattr(planning, "CPU", planning.CPU._replace(tile_columns=5 * R))
    assert all(1 < p.block <= 5 and T % p.block for p in cut(every, BIG))
    assert_same(run(every, BIG), whole, "float32")


@pytest.mark.parametrize(("tasks", "block"), [(1, 1), (5, 2), (6, 3), (7, 10), (9, 1)])
def test_every_unordered_pair_is_in_one_tile(tasks, block):
    """Tiles cover i ≤ j, each exactly once."""
    seen = []
    for rows, cols, pairs in planning.tiles(tasks, block):
        seen += [(rows[a], cols[b]) for a, b in pairs.tolist()]
    assert sorted(seen) == [(a, b) for a in range(tasks) for b in range(a, tasks)]


@pytest.mark.parametrize(("known", "block", "added"), [(4, 2, 2), (5, 3, 1), (1, 4, 3), (6, 9, 2)])
def test_pairs_of_known_tasks_are_in_no_tile(known, block, added):
    """What joins 1 … 6 known tasks to make 8: every other pair once, at most so many a block."""
    seen = []
    for rows, cols, pairs in planning.tiles(8, block, known, added):
        assert all(len(t) <= (added if t.start >= known else block) for t in (rows, cols))
        seen += [(rows[a], cols[b]) for a, b in pairs.tolist()]
    assert sorted(seen) == [(a, b) for a in range(8) for b in range(max(a, known), 8)]
    assert len(seen) == planning.new_pairs(8, known)


@pytest.mark.parametrize("budget", [0, 1000, -1])
def test_too_small_a_budget_is_one_clear_error(budget):
    """It says which budget, which shape, and what is needed; and that much is then enough."""
    every = factors()
    with pytest.raises(
        jt.JaxtaskError, match=r"memory_budget of .* too small.*rank 3, needs .* MiB"
    ):
        run(every, budget)
    least = smallest(every)
    with pytest.raises(jt.JaxtaskError, match="too small"):
        run(every, least - 1)


@pytest.mark.parametrize("budget", ["big", "least"])
def test_missing_modules_are_nan(budget):
    """NaN and invalid where either task lacks the module, and everything else as without them."""
    every = factors(third_shape=(D_IN, D_OUT))
    whole = run(every, BIG)
    lacking = {"t2": "layers.0.q", "t7": "layers.0.q", "t5": "layers.1.down"}
    some = {n: {k: f for k, f in m.items() if lacking.get(n) != k} for n, m in every.items()}
    ds = run(some, BIG if budget == "big" else smallest(some))
    for layer, module, names in ((0, "q", ("t2", "t7")), (1, "down", ("t5",)), (1, "q", ())):
        at = {"layer": layer, "module": module}
        absent = np.isin(ds["source"].values, names)
        pair = absent[:, None] | absent
        part, full = ds.sel(at), whole.sel(at)
        for name in set(ds.data_vars) - {"d_out", "d_in"}:
            gone = absent if "task" in ds[name].dims else pair
            found, expected = part[name].values, full[name].values
            if name == "valid":
                assert not found[gone].any()
            else:
                assert np.isnan(found[gone]).all(), name
            assert_equal(name, found[~gone], expected[~gone], "float32")
    nowhere = ds.sel(layer=0, module="down")
    assert all(np.isnan(nowhere[n]).all() for n in nowhere.data_vars if n != "valid")
    assert not nowhere["valid"].any()


@pytest.mark.slow
def test_progress_counts_every_pair(backend):
    """Told (done, all) in unordered pairs × modules, ending with done = all."""
    said = []
    every = factors()
    run(every, smallest(every), progress=lambda done, total: said.append((done, total)))
    total = 3 * T * (T + 1) // 2
    assert said[-1] == (total, total)
    assert [done for done, _ in said] == sorted({done for done, _ in said})
