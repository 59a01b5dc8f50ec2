"""From tensors of numbers to findings."""

from jaxtask.analysis.groups import silhouette as silhouette
from jaxtask.analysis.pooling import pool as pool
from jaxtask.analysis.pooling import poolable as poolable
