"""From a result to findings: numbers, notes, and clear answers where nothing can be found."""

import numpy as np
import pytest
from scipy.stats import spearmanr

import jaxtask as jt
from analysis.random_banks import factors, random_bank, random_update
from jaxtask.analysis.calibration import cells_of, pairs_of
from jaxtask.errors import AnalysisError
from makers import orthonormal

TASKS = ("a", "b", "c", "d", "e")
METRICS = ["grassmann", "overlap", "cosine", "rec", "entropy_source", "energy_core"]


def bank_of(factors_of):
    return jt.AdapterBank.from_factors(factors_of)


@pytest.fixture(scope="module")
def ds():
    """Random but for b, whose output spaces are a's."""
    rng = np.random.default_rng(0)
    made = random_bank(rng, TASKS, layers=5, shapes={"q": (30, 24), "v": (20, 24)})
    for key in made["a"]:
        B = made["a"][key][0]
        made["b"][key] = (B @ rng.standard_normal((3, 3)).astype("f4"), made["b"][key][1])
    return jt.compare(bank_of(made), metrics=METRICS, keep=["spectra"], command="jaxtask compare")


@pytest.fixture(scope="module")
def found(ds):
    return jt.analyze(ds, {"x": ["a", "b"], "y": ["c", "d"]})


def test_what_is_planted_stands_out(found):
    pooled = found.pooled["grassmann_out"]
    assert pooled.towards == "small"
    assert pooled.values[0, 1] < 1e-4
    assert pooled.p[0, 1] < 1e-10
    assert pooled.z[0, 1] < -10
    assert pooled.calibrated[0, 1] == pytest.approx(1, abs=1e-4)
    others = pooled.p[2:, 2:][~np.eye(3, dtype=bool)]
    assert (others > 0.001).all()
    assert abs(pooled.calibrated[2, 3]) < 0.2
    assert (pooled.low[2, 3] < pooled.values[2, 3]) & (pooled.values[2, 3] < pooled.high[2, 3])
    cells = found.cells["grassmann_out"]
    assert cells.tested == 10 * 10
    assert cells.significant >= 10
    assert cells.share.shape == (5, 2)
    np.testing.assert_allclose(cells.share.sum() * 10, cells.significant)
    assert found.cells["rec"].tested == 20 * 10


def test_pooled_numbers(ds, found):
    for name, pooled in found.pooled.items():
        np.testing.assert_allclose(pooled.values, jt.pool(ds, name), rtol=1e-6)
        if pooled.chance is not None:
            off = ~np.eye(len(TASKS), dtype=bool)
            z = (pooled.values - pooled.chance) / pooled.sd
            np.testing.assert_allclose(pooled.z[off], z[off], rtol=1e-4, atol=1e-4)
    assert found.pooled["entropy_source"].chance is None
    pairs = pairs_of(ds, "rec")
    np.testing.assert_allclose(found.profiles["rec"], cells_of(ds, "rec", pairs).mean(axis=2))
    assert found.chance_profiles["overlap_out"][0] == pytest.approx([3 / 30, 3 / 20])
    rho = found.agreement["grassmann_out", "cosine"]
    off = np.triu_indices(len(TASKS), 1)
    x, y = (found.pooled[n].values[off] for n in ("grassmann_out", "cosine"))
    assert rho == pytest.approx(spearmanr(x, y).statistic)


def test_calibrated_is_the_mean_over_cells(ds, found):
    """Of what each module's chance says, with one of 20 and one of 30 outputs."""
    values = ds["overlap_out"].values.astype(float)
    chance = np.array([3 / 30, 3 / 20])[None, :, None, None]
    expected = ((chance - values) / (chance - 1)).mean(axis=(0, 1))
    off = ~np.eye(len(TASKS), dtype=bool)
    np.testing.assert_allclose(found.pooled["overlap_out"].calibrated[off], expected[off])


def test_weights_by_norm(ds):
    found = jt.analyze(ds, weights="norm").pooled["overlap_out"]
    norm, values = ds["frobenius"].values, ds["overlap_out"].values.astype(float)
    w = norm[..., :, None] * norm[..., None, :]
    expected = (w * values).sum(axis=(0, 1)) / w.sum(axis=(0, 1))
    np.testing.assert_allclose(found.values, expected, rtol=1e-5)
    chance = (w * np.array([3 / 30, 3 / 20])[:, None, None]).sum(axis=(0, 1)) / w.sum(axis=(0, 1))
    off = ~np.eye(len(TASKS), dtype=bool)
    np.testing.assert_allclose(found.chance[off], chance[off])
    with pytest.raises(
        jt.JaxtaskError, match="unknown weights 'size'; expected one of equal, norm"
    ):
        jt.analyze(ds, weights="size")


def test_groups(found):
    assert found.groups == {"a": "x", "b": "x", "c": "y", "d": "y"}
    assert found.separation.tasks == ("a", "b", "c", "d")
    assert found.separation.variable == "grassmann_out"
    assert found.separation.test.exact
    assert any("In no group" in note and note.endswith(" e.") for note in found.notes)


def test_shape_and_provenance(found):
    assert found.tasks == TASKS
    assert found.about["command"] == "jaxtask compare"
    assert found.about["layers"] == [0, 1, 2, 3, 4]
    assert found.maps.variable == "grassmann_out"
    assert found.inclusion.decided_by == "energy_core"


def test_the_same_twice(ds):
    one, two = (jt.analyze(ds, seed=3) for _ in range(2))
    for name in one.pooled:
        np.testing.assert_array_equal(one.pooled[name].low, two.pooled[name].low)
        if one.pooled[name].p is not None:
            np.testing.assert_array_equal(one.pooled[name].p, two.pooled[name].p)


def test_a_shared_start_is_said():
    rng = np.random.default_rng(1)
    made = random_bank(rng, TASKS, layers=2)
    apart = jt.compare(bank_of(made), metrics="overlap")
    assert not any("initial A" in n for n in jt.analyze(apart).notes)
    for key in made["a"]:
        start = made["a"][key][1]
        for task in TASKS:
            moved = start + 0.05 * rng.standard_normal(start.shape).astype("f4")
            made[task][key] = (made[task][key][0], moved)
    for metrics in ("overlap", "grassmann"):
        notes = jt.analyze(jt.compare(bank_of(made), metrics=metrics)).notes
        (note,) = [n for n in notes if "initial A" in n]
        assert f"{metrics}_in of" in note
        assert "(null mean" in note


def test_notes_on_what_is_not_known(ds):
    mine = jt.metric(lambda pair: pair.s_source[0], name="first")
    made = random_bank(np.random.default_rng(2), "ab", layers=1)
    found = jt.analyze(jt.compare(bank_of(made), metrics=["rec", "cosine", mine]))
    notes = "\n".join(found.notes)
    assert "No null distribution of first: it is a metric of your own" in notes
    assert (
        "No null distribution of rec: it needs the spectra: `jaxtask compare … --keep spectra`"
        in notes
    )
    assert "flat spectra" in notes
    assert "There are no maps" in notes
    assert "few layers (1)" in notes
    assert found.pooled["rec"].chance is None
    assert found.pooled["cosine"].chance is not None
    # A variant of a metric of the package is not the package's.
    variant = jt.metrics.rec(sign="clip", name="rec")
    ds = jt.compare(bank_of(made), metrics=[variant], keep=["spectra"])
    assert jt.analyze(ds).pooled["rec"].chance is None
    older = ds.drop_vars(["d_out", "d_in"])
    assert jt.analyze(older).pooled["rec"].chance is None


def test_results_without_dimensions_say_so(ds):
    notes = jt.analyze(ds.drop_vars(["d_out", "d_in"])).notes
    assert any("does not tell the dimensions" in n and "grassmann_out" in n for n in notes)


def test_missing_modules_and_zero_updates():
    rng = np.random.default_rng(4)
    made = random_bank(rng, TASKS[:4], layers=2, shapes={"q": (14, 12), "v": (9, 12)})
    for task in "bcd":
        del made[task]["layers.1.v"]
    made["c"]["layers.0.q"] = tuple(0 * x for x in made["c"]["layers.0.q"])
    found = jt.analyze(jt.compare(bank_of(made), metrics=METRICS, keep=["spectra"]))
    notes = "\n".join(found.notes)
    assert "Left out, since only one adapter has them: v of layer 1." in notes
    assert "Some updates are zero and are not tested: q of layer 0." in notes
    # Six pairs in two modules, and three in the one where c is zero.
    assert found.cells["grassmann_out"].tested == 6 + 6 + 3
    pooled = found.pooled["grassmann_out"]
    assert np.isfinite(pooled.p[~np.eye(4, dtype=bool)]).all()
    # What is not tested is the same by chance: the difference is that of the other cells.
    assert pooled.chance[0, 2] == pytest.approx(pooled.values[0, 2], rel=0.2)


def test_ranks_that_differ():
    rng = np.random.default_rng(5)
    made = {
        task: {f"layers.{n}.q": random_update(rng, 14, 12, rank) for n in range(3)}
        for task, rank in zip("abcd", (1, 2, 3, 3), strict=True)
    }
    found = jt.analyze(jt.compare(bank_of(made), keep=["spectra"]))
    off = ~np.eye(4, dtype=bool)
    for name, pooled in found.pooled.items():
        if pooled.p is not None:
            p = pooled.p[off]
            assert ((p > 1e-5) | np.isnan(p)).all(), name
    # REC of rank 1 is 1, also by chance.
    assert np.isnan(found.pooled["rec"].p[0]).all()
    # With a right angle among them, the largest is that, also by chance.
    assert np.isfinite(found.pooled["asimov_out"].p).sum() == 2


def test_groups_without_a_module_in_common():
    rng = np.random.default_rng(6)
    made = {
        task: {f"layers.0.{m}": random_update(rng, 9, 9, 2) for m in modules}
        for task, modules in {"a": "qv", "b": "q", "c": "v", "d": "qv"}.items()
    }
    found = jt.analyze(jt.compare(bank_of(made)), {"x": ["a", "b"], "y": ["c", "d"]})
    assert found.separation is None
    assert "Groups were not tested: b and c have no module in common." in found.notes
    assert found.maps.filled == 1


def nothing_shared():
    rng = np.random.default_rng(7)
    return {t: {f"layers.0.{t}": random_update(rng, 9, 9, 2)} for t in "ab"}


@pytest.mark.parametrize(
    ("made", "options", "arguments", "message"),
    [
        ({"a": 1}, {}, {}, r"one adapter \(a\); findings need two or more"),
        ({"a": 1, "b": 1}, {"metrics": ["martin"]}, {}, "no metric that can be pooled.*--metrics"),
        (None, {}, {}, "no module is adapted in two of the adapters"),
        ({"a": 1, "b": 1}, {"metrics": ["cosine"]}, {"groups": {"x": ["a", "b"], "y": ["a"]}},
         "in groups 'x' and 'y'"),
        ({"a": 1, "b": 1, "c": 1}, {"metrics": ["cosine"]},
         {"groups": {"x": ["a", "b"], "y": ["c"]}}, "groups need a distance.*--metrics grassmann"),
        ({"a": 1, "b": 1}, {"metrics": ["grassmann"]}, {"distance": "chordal_out"},
         "no distance 'chordal_out' .there: grassmann_out, grassmann_in.*--metrics chordal"),
    ],
)  # fmt: skip
def test_errors(made, options, arguments, message):
    rng = np.random.default_rng(8)
    bank = nothing_shared() if made is None else random_bank(rng, made, layers=1)
    ds = jt.compare(bank_of(bank), **options)
    with pytest.raises(AnalysisError, match=message):
        jt.analyze(ds, **arguments)


def test_dimensions_are_in_results(tmp_path):
    """In memory, on disk, and after adapters are added."""
    rng = np.random.default_rng(9)
    made = random_bank(rng, "abc", layers=2, shapes={"q": (14, 12), "v": (9, 12)})
    made["a"]["layers.1.q"] = factors(orthonormal(rng, 20, 2), np.ones(2), orthonormal(rng, 12, 2))
    for task in "bc":
        made[task]["layers.1.q"] = made["a"]["layers.1.q"]
    two = bank_of({t: made[t] for t in "ab"})
    jt.compare(two, metrics="cosine", out=tmp_path / "r.zarr")
    added = jt.compare(bank_of(made), metrics="cosine", out=tmp_path / "r.zarr", append=True)
    for ds in (jt.compare(two, metrics="cosine"), added):
        assert ds["d_out"].dims == ("layer", "module")
        np.testing.assert_array_equal(ds["d_out"], [[14, 9], [20, 9]])
        np.testing.assert_array_equal(ds["d_in"], np.full((2, 2), 12))
