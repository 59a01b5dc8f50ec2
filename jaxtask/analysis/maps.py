"""Pictures of a matrix of distances: PCA, classical scaling, clusters."""

from dataclasses import dataclass

import numpy as np

from jaxtask.errors import JaxtaskError

# Beyond this share of the largest distance, d(i, j) and d(j, i) differ by more than rounding.
_ASYMMETRY = 1e-4
# The best order of the leaves takes a time that grows with the cube of the tasks; above this many
# they stay in the order in which they were joined.
_OPTIMAL_ORDER = 500


@dataclass(frozen=True)
class Maps:
    """Every map of one pooled distance between T tasks.

    Attributes:
        variable: The distance.
        filled: Pairs without a distance, which were given one: see `complete`.
        pca: [T, 2]: coordinates, the rows of the matrix being the features.
        pca_shares: [2]: share of the variance.
        mds: [T, 2]: coordinates of classical scaling.
        mds_shares: [2]: share of the sum of all |eigenvalues|.
        mds_negative: Share of the negative eigenvalues in that sum: 0 for Euclidean distances.
        stress: (Σ(d − δ)² / Σd²)^½ over pairs, δ being the distances in the picture (Kruskal's
            stress-1).
        linkage: [T − 1, 4]: clusters, as in SciPy.
        method: Linkage method: "average" or "ward".
        cophenetic: Correlation of the distances with the heights at which pairs join; NaN for fewer
            than three tasks, or where either does not vary.
        order: [T]: tasks in the order of the leaves, near ones beside each other.

    """

    variable: str
    filled: int
    pca: np.ndarray
    pca_shares: np.ndarray
    mds: np.ndarray
    mds_shares: np.ndarray
    mds_negative: float
    stress: float
    linkage: np.ndarray
    method: str
    cophenetic: float
    order: np.ndarray


def make_maps(distances: np.ndarray, variable: str, *, method: str = "average") -> Maps:
    """All maps of one matrix.

    Args:
        distances: [T, T], symmetric, T ≥ 2; NaN where a pair has none.
        variable: Its name.
        method: Linkage method: "average" or "ward".

    Raises:
        JaxtaskError: Fewer than two tasks, no pair has a distance, or the matrix is not symmetric.

    """
    d, filled = complete(distances, variable)
    pca_at, pca_shares = pca(d)
    mds_at, mds_shares, negative, stress = classical_scaling(d)
    tree, cophenetic, order = clusters(d, method)
    return Maps(
        variable=variable,
        filled=filled,
        pca=pca_at,
        pca_shares=pca_shares,
        mds=mds_at,
        mds_shares=mds_shares,
        mds_negative=negative,
        stress=stress,
        linkage=tree,
        method=method,
        cophenetic=cophenetic,
        order=order,
    )


def complete(distances: np.ndarray, variable: str = "distance") -> tuple[np.ndarray, int]:
    """The same distances with none missing, and how many pairs were filled.

    A pair without a distance (its tasks share no module) gets the mean of all distances that its
    two tasks have to others; if there are none, the mean of all. The diagonal is zero.

    Args:
        distances: [T, T], symmetric; NaN where a pair has none.
        variable: Its name, for errors.

    Returns:
        [T, T] in float64, and the number of unordered pairs that were filled.

    Raises:
        JaxtaskError: See `make_maps`.

    """
    d = np.array(distances, np.float64)
    if len(d) < 2:
        raise JaxtaskError(f"{variable}: maps need at least two tasks, there is {len(d)}")
    np.fill_diagonal(d, np.nan)
    known = np.isfinite(d)
    if not known.any():
        raise JaxtaskError(f"{variable}: no pair of tasks has a value, so there is nothing to map")
    both = known & known.T
    if np.abs(d - d.T, where=both, out=np.zeros_like(d)).max() > _ASYMMETRY * np.nanmax(np.abs(d)):
        raise JaxtaskError(f"{variable} is not symmetric, so it is no distance to make maps of")
    d = np.where(both, (d + d.T) / 2, np.nan)
    total, count = np.nansum(d, axis=1), both.sum(axis=1)
    pair_count = count[:, None] + count
    pair_mean = np.divide(
        total[:, None] + total,
        pair_count,
        out=np.full_like(d, np.nanmean(d)),
        where=pair_count > 0,
    )
    missing = ~both & ~np.eye(len(d), dtype=bool)
    d = np.where(missing, pair_mean, d)
    np.fill_diagonal(d, 0)
    return d, int(missing.sum()) // 2


def pca(distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a matrix as features, centred, on their two main directions, as in the talk.

    Args:
        distances: [T, T], complete.

    Returns:
        Coordinates [T, 2] and their shares of the variance [2]; 0 where there is no second (or
        first) direction. Signs are chosen so that the largest coordinate is positive.

    """
    centred = distances - distances.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    return _two(u * s, s**2)


def classical_scaling(distances: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Coordinates whose Euclidean distances come near the given ones (Torgerson 1952).

    Eigenvectors of −½ J d² J, with J = I − 1/T, times the roots of the two largest eigenvalues. The
    negative eigenvalues of distances that are not Euclidean have no picture: their share is told.

    Args:
        distances: [T, T], symmetric and complete.

    Returns:
        Coordinates [T, 2], shares [2], share of the negative eigenvalues, stress. See `Maps`.

    """
    squares = distances**2
    centred = squares - squares.mean(axis=0) - squares.mean(axis=1, keepdims=True) + squares.mean()
    values, vectors = np.linalg.eigh(-centred / 2)
    values, vectors = values[::-1], vectors[:, ::-1]
    weight = np.abs(values).sum()
    positive = np.maximum(values, 0)
    at, _ = _two(vectors * np.sqrt(positive), positive)
    shares = np.zeros(2)
    if weight > 0:
        shares[: min(2, len(values))] = positive[:2] / weight
    negative = float(-np.minimum(values, 0).sum() / weight) if weight > 0 else 0.0
    drawn = np.linalg.norm(at[:, None] - at, axis=-1)
    size = squares.sum()
    stress = float(np.sqrt(((distances - drawn) ** 2).sum() / size)) if size > 0 else 0.0
    return at, shares, negative, stress


def clusters(
    distances: np.ndarray, method: str = "average"
) -> tuple[np.ndarray, float, np.ndarray]:
    """Hierarchical clusters, how well their heights keep the distances, and the order of leaves.

    Args:
        distances: [T, T], symmetric and complete.
        method: "average" or "ward" (which takes the distances for Euclidean).

    Returns:
        Linkage [T − 1, 4], cophenetic correlation (see `Maps`), tasks [T] so ordered that
        neighbours are near (Bar-Joseph, Gifford, Jaakkola 2001).

    """
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    condensed = squareform(distances, checks=False)
    tree = hierarchy.linkage(condensed, method)
    if len(distances) <= _OPTIMAL_ORDER:
        tree = hierarchy.optimal_leaf_ordering(tree, condensed)
    heights = hierarchy.cophenet(tree)
    varies = min(np.ptp(heights), np.ptp(condensed)) > 1e-12 * condensed.max(initial=0)
    cophenetic = float(np.corrcoef(condensed, heights)[0, 1]) if varies else float("nan")
    return tree, cophenetic, hierarchy.leaves_list(tree).astype(int)


def _two(scores: np.ndarray, variances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first two columns with settled signs, and their shares; zeros where there are fewer."""
    at, shares = np.zeros((len(scores), 2)), np.zeros(2)
    total = variances.sum()
    for n in range(min(2, scores.shape[1])):
        # What rounding leaves of a direction that is not there is no direction.
        if variances[n] > 1e-14 * total:
            column = scores[:, n]
            at[:, n] = column * np.sign(column[np.argmax(np.abs(column))])
            shares[n] = variances[n] / total
    return at, shares
