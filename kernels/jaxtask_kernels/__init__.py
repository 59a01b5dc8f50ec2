"""Array → array device programs for comparing low-rank matrices."""

from jaxtask_kernels.angles import principal_angles as principal_angles
from jaxtask_kernels.factor import Factors as Factors
from jaxtask_kernels.factor import factor as factor
from jaxtask_kernels.factor import orthonormal_basis as orthonormal_basis
from jaxtask_kernels.gram import gram_blocks as gram_blocks
from jaxtask_kernels.singular_values import singular_values as singular_values
