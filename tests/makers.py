"""Subspaces and updates with prescribed angles, spectra, conditioning and ranks. NumPy only."""

import numpy as np

import jaxtask as jt

MIXED_ANGLES = (1e-9, 1e-7, 1e-5, 1e-3, 0.02, 0.3, 0.7, 1.1, 1.5, np.pi / 2)
"""Tiny and right angles in one pair: where a method good at one end fails at the other."""


def orthonormal(rng, d, r):
    """Uniformly random orthonormal columns [d, r]."""
    Q, R = np.linalg.qr(rng.standard_normal((d, r)))
    return Q * np.sign(np.diag(R))


def spectrum_matrix(rng, s, *, left=None, right=None):
    """Square matrix with singular values s, between random rotations unless they are given."""
    n = len(s)
    left = orthonormal(rng, n, n) if left is None else left
    right = orthonormal(rng, n, n) if right is None else right
    return left * np.asarray(s) @ right


def conditioned(rng, r, kappa):
    """Random [r, r] of condition number kappa (1 at r = 1)."""
    return spectrum_matrix(rng, np.geomspace(1, 1 / kappa, r) if r > 1 else np.ones(1))


def bases_at_angles(rng, d, k, l, theta):  # noqa: E741
    """Orthonormal X [d, k], Y [d, l] whose min(k, l) principal angles are `theta`, repeated to fit.

    Y = X cos θ + X⊥ sin θ; the further columns of the larger space are orthogonal to everything.
    """
    shared = min(k, l)
    if k + l > d:
        raise ValueError("angles cannot be prescribed freely when k + l > d")
    theta = np.resize(theta, shared)
    Z = orthonormal(rng, d, k + l)
    X, rest = Z[:, :k], Z[:, k:]
    Y = rest.copy()
    Y[:, :shared] = X[:, :shared] * np.cos(theta) + rest[:, :shared] * np.sin(theta)
    return X, Y


def pair_at_angles(rng, d, k, l, theta, kappa, dtype):  # noqa: E741
    """Columns [d, k], [d, l] at about those angles, conditioned kappa, rounded to `dtype`.

    Rounding moves each space by about kappa·eps: what the angles are is for the oracle to say, from
    the rounded bits.
    """
    X, Y = bases_at_angles(rng, d, k, l, theta)
    X, Y = X @ conditioned(rng, k, kappa), Y @ conditioned(rng, l, kappa)
    return X.astype(dtype), Y.astype(dtype)


def spectrum(r, ratio=10.0):
    """r values from 1 down by equal steps to 1/ratio: gaps as wide as they can be."""
    return np.linspace(1, 1 / ratio, r)


def update(rng, U, s, V, dtype=np.float64, gauge=3.0):
    """Factors (B, A) of U diag(s) Vᵀ in a random gauge of that condition number, as `dtype`."""
    r = len(s)
    G = conditioned(rng, r, gauge)
    B = (U * np.sqrt(s)) @ G
    A = np.linalg.solve(G, (V * np.sqrt(s)).T)
    return B.astype(dtype), A.astype(dtype)


def random_update(rng, d_out, d_in, r, dtype=np.float64, scale=1.0):
    """Factors (B, A) of rank r with random spaces and the well separated `spectrum`."""
    U, V = orthonormal(rng, d_out, r), orthonormal(rng, d_in, r)
    return update(rng, U, scale * spectrum(r), V, dtype)


def near_update(rng, U, s, V, theta, dtype=np.float64, drift=0.0):
    """Its spaces leave span(U) and span(V) by the angles `theta`; its spectrum drifts from s."""

    def leave(Q):
        r = Q.shape[1]
        outside = rng.standard_normal(Q.shape)
        outside = np.linalg.qr(outside - Q @ (Q.T @ outside))[0]
        t = np.resize(theta, r)
        return Q * np.cos(t) + outside * np.sin(t)

    moved = s * (1 + drift * rng.standard_normal(len(s)))
    return update(rng, leave(U), moved, leave(V), dtype)


def random_bank(tasks, shapes, seed=0):
    """A bank of float32 factors at random.

    `tasks` are names. `shapes` is path → (d_out, d_in, r), or a function of a task's number.
    """
    rng = np.random.default_rng(seed)

    def factors(d_out, d_in, r):
        return rng.standard_normal((d_out, r), "f"), rng.standard_normal((r, d_in), "f")

    return jt.AdapterBank.from_factors(
        {
            task: {
                path: factors(*shape)
                for path, shape in (shapes(n) if callable(shapes) else shapes).items()
            }
            for n, task in enumerate(tasks)
        }
    )
