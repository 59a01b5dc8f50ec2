"""Banks of random and of planted updates, and results with given arrays. NumPy only."""

import numpy as np

from makers import orthonormal


def factors(U, s, V):
    """(B, A) of U diag(s) Vᵀ."""
    return (U * s).astype(np.float32), V.T.astype(np.float32)


def random_update(rng, d_out, d_in, rank, spectrum=None):
    """(B, A) of an update between uniformly random bases, by default of a random spectrum."""
    s = rng.uniform(0.2, 1, rank) if spectrum is None else spectrum
    return factors(orthonormal(rng, d_out, rank), s, orthonormal(rng, d_in, rank))


def random_bank(rng, tasks, layers=2, shapes=None, rank=3):
    """Factors by task and module, all independent."""
    shapes = shapes or {"q": (14, 12), "v": (9, 12)}
    return {
        task: {
            f"layers.{layer}.{module}": random_update(rng, *shape, rank)
            for layer in range(layers)
            for module, shape in shapes.items()
        }
        for task in tasks
    }
