"""Array → array device programs for comparing low-rank matrices."""

from jaxtask_kernels.angles import principal_angles
from jaxtask_kernels.factor import Factors, factor, orthonormal_basis
from jaxtask_kernels.gram import gram_blocks
from jaxtask_kernels.singular_values import singular_values

__all__ = [
    "Factors",
    "factor",
    "gram_blocks",
    "orthonormal_basis",
    "principal_angles",
    "singular_values",
]
