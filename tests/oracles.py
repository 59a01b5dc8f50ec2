"""Reference values: extended precision, mpmath formulas, dense matrices. No JAX, no jaxtask.

Three layers, each used to check the next one where they overlap:

- `mp_angles`: principal angles at 50 digits by mpmath, for small inputs;
- `angles`: the same from the stored bits in `numpy.longdouble` (80-bit, eps 1e-19), any size;
- `DensePair`: both updates as dense float64 matrices with plain SVDs, and `distances`, the
  definitions of the metrics as they are written, in 40-digit arithmetic.

And `sum_error`, `turns_error` and `slip_error`: how far from its value something may be that is
computed in floating point, in whatever order of summation.
"""

from functools import cached_property

import mpmath as mp
import numpy as np

EXTENDED = np.finfo(np.longdouble).eps < 1e-18
"""False where `longdouble` is only float64 (macOS on Arm): truth then comes from mpmath."""

_MP_ENTRIES = 20_000


# --------------------------------------------------------------------------- floating point


def sum_error(d, dtype):
    """Share of ‖x‖‖y‖ by which a computed x · y of d terms may be off, in any order of summation.

    Every term meets at most d roundings, of its product and of partial sums, each by a factor 1 + δ
    with |δ| ≤ u = eps/2; fewer, if products are fused with additions, or if sums are split among
    lanes, blocks and threads. Together that is at most d·u Σ|xᵢyᵢ| ≤ d·u ‖x‖‖y‖. But their signs
    differ: independent ones of mean zero exceed 8√d·u with a probability below 2d·e⁻³² (Higham and
    Mary, SIAM J. Sci. Comput. 41, 2019, with λ = 8). The lesser holds at every level of
    instructions. Sums of some hundreds of numbers rounded to bfloat16 or TF32 do not keep to it.
    """
    return min(d, 8 * np.sqrt(d)) * np.finfo(dtype).eps / 2


def turns_error(n, dtype):
    """Share of a matrix's norm by which n reflections from each side, or rotations, may be off.

    What a bidiagonalisation of [n, n] does, and so what its singular values are off by. Each of the
    2n is as if the matrix had been another by a few u = eps/2 of its norm; in directions that have
    nothing to do with each other, so they add up as √(2n): 4√n eps is 6u each. 4 eps more are for
    iterations that follow. (At worst they add up as n, which LAPACK promises no more than.)
    """
    return (4 + 4 * np.sqrt(n)) * np.finfo(dtype).eps


def slip_error(d, r, dtype):
    """By how much an entry of QᵀQ may miss the identity's, Q [d, r] from r reflections.

    Each of those is off by a sum over d terms, and they add up as √r.
    """
    return np.sqrt(r) * sum_error(d, dtype)


# --------------------------------------------------------------------------- extended precision


def orthonormal_rows(X):
    """Rows [k, d] that span the columns of X [d, k] (independent ones), in longdouble.

    Gram-Schmidt with two passes a vector, which is enough (Giraud, Langou and Rozložník 2005).
    """
    return _gram_schmidt(np.asarray(X).T)[0]


def _gram_schmidt(rows):
    """Orthonormal Q [k, d], lower triangular T [k, k], rows = T Q; a zero row gives zeros."""
    Q = np.array(rows, np.longdouble)
    T = np.zeros((len(Q), len(Q)), np.longdouble)
    for i, row in enumerate(Q):
        for _ in range(2):
            if i:
                along = Q[:i] @ row
                T[i, :i] += along
                row -= along @ Q[:i]
        T[i, i] = np.sqrt(row @ row)
        if T[i, i] > 0:
            row /= T[i, i]
    return Q, T


def singular_values(M):
    """Singular values of M [m, n], descending, by one-sided Jacobi in longdouble.

    All disjoint pairs of a round-robin are rotated at once.
    """
    M = np.array(M, np.longdouble)
    if M.shape[0] < M.shape[1]:
        M = M.T.copy()
    count = M.shape[1]
    if count % 2:
        M = np.concatenate([M, np.zeros((len(M), 1), np.longdouble)], axis=1)
    tiny = np.finfo(np.longdouble).tiny
    tolerance = 4 * np.finfo(np.longdouble).eps
    ring = np.arange(M.shape[1])
    for _ in range(60):
        worst = 0.0
        for _ in range(max(1, len(ring) - 1)):
            p, q = ring[: len(ring) // 2], ring[: len(ring) // 2 - 1 : -1]
            x, y = M[:, p], M[:, q]
            a, b, c = (x * x).sum(0), (y * y).sum(0), (x * y).sum(0)
            cosine = np.abs(c) / np.sqrt(np.maximum(a * b, tiny))
            worst = max(worst, cosine.max())
            turn = cosine > tolerance
            z = (b - a) / np.where(turn, 2 * c, 1)
            t = np.where(z >= 0, 1, -1) / (np.abs(z) + np.sqrt(1 + z * z))
            t = np.where(turn, t, 0)
            cs = 1 / np.sqrt(1 + t * t)
            M[:, p], M[:, q] = cs * (x - t * y), cs * (t * x + y)
            ring = np.concatenate([ring[:1], np.roll(ring[1:], 1)])
        if worst <= tolerance:
            break
    else:
        raise AssertionError(f"Jacobi did not converge: {worst}")
    return np.sort(np.sqrt((M * M).sum(0)))[::-1][:count]


def angles(X, Y):
    """Principal angles between the spans of X [d, k] and Y [d, l], ascending, from the stored bits.

    Both matrices have independent columns. Cosines and sines, each accurate in absolute terms, give
    every angle to about κ·1e-19.
    """
    if not EXTENDED:
        if max(np.size(X), np.size(Y)) > _MP_ENTRIES:
            import pytest

            pytest.skip("numpy.longdouble is float64 here, and mpmath is too slow for this size")
        return mp_angles(X, Y)
    return basis_angles(orthonormal_rows(X), orthonormal_rows(Y))


def basis_angles(P, Q):
    """Principal angles between orthonormal rows P [k, d] and Q [l, d], at their own precision."""
    if len(P) < len(Q):
        P, Q = Q, P
    G = Q @ P.T
    _, T = _gram_schmidt(Q - G @ P)
    return np.arctan2(singular_values(T)[::-1], singular_values(G)).astype(np.float64)


def mp_angles(X, Y, digits=50):
    """As `angles`, by mpmath's QR and SVD at `digits` digits. Slow: for small inputs."""
    with mp.workdps(digits):
        P, Q = (mp.qr(mp.matrix(np.asarray(Z, float).tolist()), mode="skinny")[0] for Z in (X, Y))
        if P.cols < Q.cols:
            P, Q = Q, P
        G = P.T * Q
        cosines = mp.svd_r(G, compute_uv=False)
        R = Q - P * G
        sines = mp.svd_r(mp.qr(R, mode="skinny")[1], compute_uv=False)
        found = zip(reversed(sines), cosines, strict=True)
        return np.array([float(mp.atan2(s, c)) for s, c in found])


def projector(X):
    """The float64 orthogonal projector [d, d] on the span of X's independent columns."""
    Q = np.linalg.qr(np.asarray(X, np.float64))[0]
    return Q @ Q.T


# --------------------------------------------------------------------------- by definition


def distances(theta, k, l, padding="pi/2", angle_error=0.0):  # noqa: E741
    """Every distance between spaces of dimensions k and l, from their min(k, l) angles.

    The definitions as written, in 40 digits. Also `martin_slack`: how far an error of `angle_error`
    in every angle can move `martin`, whose slope tan(θ)/martin has no bound near π/2.
    """
    with mp.workdps(40):
        main = [mp.mpf(float(t)) for t in theta]
        right = abs(k - l) if padding == "pi/2" else 0
        every = main + [mp.pi / 2] * right
        sine2 = [mp.sin(t) ** 2 for t in every]
        half2 = [mp.sin(t / 2) ** 2 for t in every]
        # The float nearest to π/2 stands for π/2 (its cosine is 6e-17).
        cosines = [mp.mpf(0) if float(t) >= np.pi / 2 else mp.cos(t) for t in every]
        product = mp.fprod(cosines)
        largest = max(every, default=mp.mpf(0))
        missing = max(l - k, 0)
        values = {
            "grassmann": mp.fsum(every),
            "geodesic": mp.sqrt(mp.fsum(t**2 for t in every)),
            "chordal": mp.sqrt(mp.fsum(sine2)),
            "projection": mp.sin(largest),
            "asimov": largest,
            "binet_cauchy": mp.sqrt(1 - product**2),
            "fubini_study": mp.acos(product),
            "martin": mp.sqrt(-mp.log(product**2)) if product else mp.inf,
            "procrustes": 2 * mp.sqrt(mp.fsum(half2)),
            "spectral": 2 * mp.sin(largest / 2),
            "containment": mp.sqrt(mp.fsum(t**2 for t in main) + missing * (mp.pi / 2) ** 2),
        }
        found = {name: float(value) for name, value in values.items()}
        found["overlap"] = (
            float(mp.fsum(mp.cos(t) ** 2 for t in main) / len(main)) if main else np.nan
        )
        slope = sum(np.tan(float(t)) for t in every) / found["martin"] if found["martin"] else 0
        found["martin_slack"] = angle_error * (slope + np.sqrt(len(every)))
    return found


def martin_slope(values):
    """At least the slope of `martin` in any angle, from its value m: tan θ/m ≤ 1/(m Π cos θ).

    With Π cos θ = exp(−m²/2). 1 where m is small, 0 where it is infinite (and must stay so).
    """
    m = np.nan_to_num(values, nan=0.0, posinf=0.0)
    return np.where(np.isinf(values), 0, 1 + np.exp(m**2 / 2) / np.maximum(m, 1))


# --------------------------------------------------------------------------- dense matrices


class Dense:
    """One update as a dense float64 matrix, with its plain SVD cut at the given rank."""

    def __init__(self, B, A, rank, scale=1.0):
        self.W = float(scale) * (np.asarray(B, np.float64) @ np.asarray(A, np.float64))
        self.rank = rank
        U, s, Vt = np.linalg.svd(self.W, full_matrices=False)
        self.U, self.s, self.V = U[:, :rank], s[:rank], Vt[:rank].T
        self.norm = np.linalg.norm(self.W)


class DensePair:
    """Every quantity of source 1 and target 2, literally from the dense matrices."""

    def __init__(self, one, two):
        self.one, self.two = one, two

    def angles(self, side):
        """The min(k, l) principal angles of one side, ascending."""
        P, Q = (d.U if side == "out" else d.V for d in (self.one, self.two))
        return basis_angles(P.T, Q.T)

    @cached_property
    def projected(self):
        """S₂[k] = u_kᵀ ΔW₂ v_k."""
        return np.array(
            [self.one.U[:, k] @ self.two.W @ self.one.V[:, k] for k in range(self.one.rank)]
        )

    def vectors(self):
        """`inner`, `cosine` and `l2` of the matrices themselves."""
        W1, W2 = self.one.W, self.two.W
        inner = np.sum(W1 * W2)
        cosine = inner / (self.one.norm * self.two.norm) if self.both else np.nan
        return {"inner": inner, "cosine": cosine, "l2": np.linalg.norm(W1 - W2)}

    @property
    def both(self):
        """Neither update is zero."""
        return self.one.rank > 0 and self.two.rank > 0

    def energies(self):
        """Captured shares of the target's energy, and the residual of the spectral projection."""
        if not self.both:
            return dict.fromkeys(
                ("energy_diag", "energy_core", "energy_out", "energy_in", "residual"), np.nan
            )
        U, V, W, size = self.one.U, self.one.V, self.two.W, self.two.norm
        return {
            "energy_diag": np.sum(self.projected**2) / size**2,
            "energy_core": np.linalg.norm(U.T @ W @ V) ** 2 / size**2,
            "energy_out": np.linalg.norm(U.T @ W) ** 2 / size**2,
            "energy_in": np.linalg.norm(W @ V) ** 2 / size**2,
            "residual": self.residual(self.projected),
        }

    def residual(self, s2):
        """‖U diag(s2) Vᵀ − ΔW₂‖ / ‖ΔW₂‖."""
        return np.linalg.norm(self.one.U * s2 @ self.one.V.T - self.two.W) / self.two.norm

    def spectra(self):
        """`spectral_l1`, `spectral_l2`, `rec`, entropies and negative mass, at their defaults."""
        s1, s2 = self.one.s, self.projected
        values = {"spectral_l1": lp(s1, s2, 1), "spectral_l2": lp(s1, s2, 2)}
        if not self.both:
            names = ("rec", "entropy_source", "entropy_projected", "negative_mass")
            return values | dict.fromkeys(names, np.nan)
        return values | {
            "rec": rec(s1, np.abs(s2)),
            "entropy_source": entropy(s1),
            "entropy_projected": entropy(np.abs(s2)),
            "negative_mass": -s2[s2 < 0].sum() / np.abs(s2).sum(),
        }

    def unsided(self):
        """Every metric that reads both sides."""
        return self.vectors() | self.energies() | self.spectra()


def lp(s1, s2, p):
    """‖s1 − s2‖_p."""
    gap = np.abs(s1 - s2)
    return (gap.max() if p == np.inf else np.sum(gap**p) ** (1 / p)) if gap.size else 0.0


def rec(s1, s2):
    """Σ min of the two spectra, each divided by its sum."""
    return np.minimum(s1 / s1.sum(), s2 / s2.sum()).sum()


def entropy(s, base=None):
    """Shannon entropy of s/Σs in units of `base`, over ln k if that is None (0 for one value)."""
    p = s / s.sum()
    nats = -sum(x * np.log(x) for x in p if x > 0)
    if base is not None:
        return nats / np.log(base)
    return nats / np.log(len(s)) if len(s) > 1 else 0.0
