"""Null means where all adapters share the same initial A: input sides are held fixed."""

import numpy as np
import pytest
from scipy.stats import kstest

import jaxtask as jt

WIDTH, RANK, TASKS, LAYERS = 160, 4, 10, 6
METRICS = ["overlap", "energy_core", "energy_out", "energy_in", "rec", "residual", "cosine"]


def shared_start(seed, nested=False):
    """Unrelated output spaces; `nested`: task1's are within task0's, whose rank is larger."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((LAYERS, RANK, WIDTH)).astype(np.float32)
    factors = {}
    for t in range(TASKS):
        own = {}
        for layer in range(LAYERS):
            left = rng.standard_normal((WIDTH, RANK))
            right = np.linalg.qr(rng.standard_normal((RANK, RANK)))[0]
            rows = A[layer]
            if nested and t == 1:
                source = factors["task0"][f"layers.{layer}.self_attn.q_proj"][0]
                left, right, rows = (
                    source[:, :2] @ rng.standard_normal((2, 2)),
                    np.eye(2),
                    A[layer][:2],
                )
            B = left * np.geomspace(1, 0.3, left.shape[1]) @ right
            own[f"layers.{layer}.self_attn.q_proj"] = B.astype(np.float32), rows
        factors[f"task{t}"] = own
    return jt.AdapterBank.from_factors(factors)


@pytest.fixture(scope="module")
def results():
    options = {"metrics": METRICS, "keep": ["spectra", "chance"]}
    return [jt.compare(shared_start(seed), **options) for seed in range(3)]


@pytest.mark.slow
def test_p_values_of_unrelated_tasks_are_uniform(results):
    found = [jt.analyze(ds) for ds in results]
    pairs = np.triu_indices(TASKS, 1)
    for name in ("energy_core", "energy_out", "rec", "residual", "cosine"):
        p = np.concatenate([f.pooled[name].p[pairs] for f in found])
        assert np.isfinite(p).all(), name
        assert kstest(p, "uniform").pvalue > 1e-3, name
        z = np.concatenate([f.pooled[name].z[pairs] for f in found])
        assert abs(z.mean()) < 0.5, name
    assert all((f.inclusion.direction != "includes").all() for f in found)
    assert found[0].pooled["energy_in"].p is None


def test_without_them_a_shared_start_is_taken_for_similarity(results):
    """And is said, and inclusion is tested by the output side alone."""
    ds = results[0].drop_vars([n for n in results[0] if "chance" in str(n)])
    found = jt.analyze(ds)
    off = ~np.eye(TASKS, dtype=bool)
    assert np.median(found.pooled["energy_core"].p[off]) < 1e-10
    assert found.inclusion.decided_by == "energy_out"
    assert any(
        "share the same initial A" in note and "--keep chance" in note for note in found.notes
    )
    kept = jt.analyze(results[0])
    assert kept.inclusion.decided_by == "energy_core"
    (note,) = (note for note in kept.notes if "share the same initial A" in note)
    assert "--keep chance" not in note
    assert any("holds the input sides fixed" in note for note in kept.notes)


def test_planted_inclusion_is_found(results):
    ds = jt.compare(shared_start(9, nested=True), metrics=METRICS, keep=["spectra", "chance"])
    found = jt.analyze(ds)
    assert found.inclusion.direction[0, 1] == "includes"
    assert found.inclusion.direction[1, 0] == "included"
    assert found.inclusion.parts["energy_core"][0, 1] == pytest.approx(1, abs=1e-3)
    assert found.inclusion.edges == ((0, 1),)
