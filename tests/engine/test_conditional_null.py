"""What metrics come to by chance where input sides are as they are: against draws in NumPy."""

import numpy as np
import pytest

import jaxtask as jt
from jaxtask.analysis import poolable
from jaxtask.engine.conditional_null import DRAWS

WIDTH, RANK, TASKS, MODULES = 192, 6, 5, 8
NAMES = ("rec", "spectral_l1", "entropy_projected", "residual", "energy_core", "cosine", "l2")


def bank(seed=0, tasks=TASKS, ranks=(RANK,) * TASKS):
    """Random output sides; one A for all, as after training from one start."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((MODULES, RANK, WIDTH)).astype(np.float32)

    def update(module, r):
        left = np.linalg.qr(rng.standard_normal((WIDTH, r)))[0]
        right = np.linalg.qr(rng.standard_normal((r, r)))[0]
        return ((left * np.geomspace(1, 0.1, r)) @ right).astype(np.float32), A[module][:r]

    factors = {
        f"task{t}": {f"layers.{m}.self_attn.q_proj": update(m, r) for m in range(MODULES)}
        for t, r in enumerate(ranks)
    }
    return factors, jt.AdapterBank.from_factors(dict(list(factors.items())[:tasks]))


def random_basis(rng):
    """Uniform, which QR by itself is not: it has signs of its own."""
    Q, R = np.linalg.qr(rng.standard_normal((WIDTH, RANK)))
    return Q * np.sign(np.diag(R))


def metrics(s, t, G, H):
    """In NumPy, of one pair."""
    core = G @ np.diag(t) @ H.T
    s2 = np.diag(core)
    p, q = s / s.sum(), np.abs(s2) / np.abs(s2).sum()
    total = np.sum(t**2)
    return {
        "rec": np.minimum(p, q).sum(),
        "spectral_l1": np.abs(s - s2).sum(),
        "entropy_projected": -np.sum(q * np.log(q)) / np.log(len(s)),
        "residual": np.sqrt(1 - np.sum(s2**2) / total),
        "energy_core": np.sum(core**2) / total,
        "cosine": np.sum(s * s2) / np.sqrt(np.sum(s**2) * total),
        "l2": np.sqrt(np.sum(s**2) + total - 2 * np.sum(s * s2)),
    }


@pytest.mark.slow
def test_draws_are_those_of_random_output_spaces():
    factors, made = bank()
    ds = jt.compare(made, metrics=NAMES, keep=["chance"])
    rng = np.random.default_rng(1)
    for module, i, j in ((0, 0, 1), (3, 2, 4), (5, 4, 0)):
        (B1, A1), (B2, A2) = (list(factors[f"task{n}"].values())[module] for n in (i, j))
        (_, s, V1), (_, t, V2) = (
            (np.linalg.svd(B.astype(float) @ A.astype(float), full_matrices=False))
            for B, A in ((B1, A1), (B2, A2))
        )
        s, t, H = s[:RANK], t[:RANK], V1[:RANK] @ V2[:RANK].T
        drawn = [metrics(s, t, random_basis(rng)[:RANK], H) for _ in range(2000)]
        for name in NAMES:
            right = np.array([d[name] for d in drawn])
            cell = {"layer": module, "source": f"task{i}", "target": f"task{j}"}
            mean, sd = (float(ds[f"{name}_chance{of}"].sel(cell).squeeze()) for of in ("", "_sd"))
            assert abs(mean - right.mean()) < 5 * right.std() / np.sqrt(DRAWS), name
            assert 0.6 < sd / right.std() < 1.6, name


def test_unrelated_tasks_are_at_chance_though_they_share_their_start():
    """Also the energy of both sides, which the shared input side alone makes large."""
    ds = jt.compare(bank()[1], metrics=NAMES, keep=["chance"])
    off = ~np.eye(TASKS, dtype=bool)
    for name in NAMES:
        value, mean, sd = (
            ds[name + of].values[:, 0][:, off] for of in ("", "_chance", "_chance_sd")
        )
        z = (value - mean) / sd
        assert abs(z.mean()) < 0.6, name
        assert 0.7 < z.std() < 1.4, name
    assert float(ds["energy_core"].where(off).mean()) > 10 * (RANK / WIDTH) ** 2


def test_draws_depend_on_the_pair_alone():
    names = ["rec", "energy_core"]
    whole = jt.compare(bank()[1], metrics=names, keep=["chance"])
    fewer = jt.compare(bank(tasks=3)[1], metrics=names, keep=["chance"])
    cut = jt.compare(bank()[1], metrics=names, keep=["chance"], memory_budget=3 << 20)
    tasks = list(fewer["source"].values)
    for name in ("rec_chance", "rec_chance_sd", "energy_core_chance"):
        np.testing.assert_allclose(cut[name], whole[name], rtol=1e-5)
        shared = whole[name].sel(source=tasks, target=tasks)
        np.testing.assert_allclose(fewer[name], shared, rtol=1e-5)
        assert len(np.unique(whole[name].values[:, 0, 0, 1])) == MODULES


def test_ranks_and_what_has_none():
    own = jt.metric(lambda pair: pair.out.angles.sum(), name="own")
    _, made = bank(ranks=(6, 3, 1, 6, 2))
    ds = jt.compare(made, metrics=["rec", "energy_core", "grassmann", own], keep=["chance"])
    chances = {name for name in ds if "chance" in name}
    assert chances == {f"{n}_chance{of}" for n in ("rec", "energy_core") for of in ("", "_sd")}
    # The share that k of d dimensions catch of an input side that lies in the source's or not.
    mean = ds["energy_core_chance"].sel(source="task0").mean("layer").values.squeeze()
    np.testing.assert_allclose(mean, RANK / WIDTH, rtol=0.15)
    assert np.isfinite(ds["rec_chance"]).all()
    assert "rec_chance" not in poolable(ds)


def test_it_has_to_be_asked_for():
    assert not [name for name in jt.compare(bank()[1], metrics=["rec"]) if "chance" in name]
    with pytest.raises(jt.JaxtaskError, match=r"unknown keep 'luck'.*chance"):
        jt.compare(bank()[1], metrics=["rec"], keep=["luck"])
