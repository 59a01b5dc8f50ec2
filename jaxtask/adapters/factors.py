"""From stored tensors to the factors B [d_out, r] and A [r, d_in] of one module.

A factor knows its shape and type without its data being read; `load` reads it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from jaxtask.adapters.tensors.stored import StoredTensor, dtype_name
from jaxtask.adapters.update import LowRankUpdate


class Factor(Protocol):
    """B or A of one module."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns, known without reading."""

    @property
    def dtype(self) -> np.dtype:
        """float32 or float64: the type `load` returns, known without reading."""

    @property
    def stored_as(self) -> str:
        """The name of the type in the file."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Where it is read from; empty for what is in memory."""

    def load(self) -> np.ndarray:
        """The factor, finite."""


@dataclass(frozen=True, eq=False)
class ArrayFactor:
    """A factor that is in memory already."""

    array: np.ndarray
    stored_as: str

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.array.shape[0], self.array.shape[1]

    @property
    def dtype(self) -> np.dtype:
        """The array's own type."""
        return self.array.dtype

    @property
    def files(self) -> tuple[Path, ...]:
        """None."""
        return ()

    def load(self) -> np.ndarray:
        """The array itself, not a copy."""
        return self.array


@dataclass(frozen=True)
class _OfTensor:
    """What is the same for all factors that are read from one tensor."""

    tensor: StoredTensor

    @property
    def dtype(self) -> np.dtype:
        """The widened type."""
        return self.tensor.widened

    @property
    def stored_as(self) -> str:
        """The name of the type in the file."""
        return dtype_name(self.tensor.dtype)

    @property
    def files(self) -> tuple[Path, ...]:
        """The tensor's."""
        return (self.tensor.path,)


@dataclass(frozen=True)
class MatrixFactor(_OfTensor):
    """A tensor that is the factor, its transpose, or the factor after flattening.

    Convolution kernels (r, in, kh, kw) are flattened to (r, in·kh·kw): the update of the weight
    (out, in, kh, kw), flattened likewise, is then B·A. Embeddings store A as (r, vocabulary) and B
    as (dim, r) for ΔW = s(BA)ᵀ = s·Aᵀ·Bᵀ, so there the transposes are the factors.
    """

    transposed: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns after flattening and transposing."""
        rows, columns = self.tensor.shape[0], math.prod(self.tensor.shape[1:])
        return (columns, rows) if self.transposed else (rows, columns)

    def load(self) -> np.ndarray:
        """Reads the tensor."""
        matrix = self.tensor.read()
        matrix = matrix.reshape(matrix.shape[0], -1)
        return np.ascontiguousarray(matrix.T) if self.transposed else matrix


@dataclass(frozen=True)
class ExpertFactor(_OfTensor):
    """One expert's part of a stacked factor.

    A is stored (E·r, in) with the expert as the slow index of the rows, B is stored (out, E·r) with
    the expert as the fast index of the columns (PEFT's `ParamWrapper`).

    Attributes:
        side: "A" or "B".

    """

    side: str
    expert: int
    experts: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of this expert's factor."""
        rows, columns = self.tensor.shape
        if self.side == "A":
            return rows // self.experts, columns
        return rows, columns // self.experts

    def load(self) -> np.ndarray:
        """Reads this expert's rows of A, or columns of B, only."""
        rows, columns = self.shape
        if self.side == "A":
            raw = self.tensor.raw(slice(self.expert * rows, (self.expert + 1) * rows))
        else:
            places = range(self.expert, columns * self.experts, self.experts)
            raw = np.hstack([self.tensor.raw(slice(None), slice(n, n + 1)) for n in places])
        return self.tensor.widen(raw)


@dataclass(frozen=True)
class SliceFactor(_OfTensor):
    """One expert's part of a tensor whose slowest index is the expert.

    The tensor is (E, rows, columns), or (E·rows, columns).
    """

    expert: int
    experts: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of this expert's factor."""
        *slow, columns = self.tensor.shape
        return math.prod(slow) // self.experts, columns

    def load(self) -> np.ndarray:
        """Reads this expert's part only."""
        step = self.tensor.shape[0] // self.experts
        raw = self.tensor.raw(slice(self.expert * step, (self.expert + 1) * step))
        return self.tensor.widen(raw.reshape(self.shape))


@dataclass(frozen=True)
class ScaledRowsFactor:
    """AdaLoRA's A∘E: row k of A (r, in) times the k-th entry of E (r, 1).

    The product is formed in float64 and rounded once to A's own type, as PEFT's own arithmetic
    rounds it too.
    """

    a: StoredTensor
    e: StoredTensor

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of A."""
        return self.a.shape[0], math.prod(self.a.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """The wider of both widened types."""
        return np.result_type(self.a.widened, self.e.widened)

    @property
    def stored_as(self) -> str:
        """The name of A's type in the file."""
        return dtype_name(self.a.dtype)

    @property
    def files(self) -> tuple[Path, ...]:
        """Those of both tensors."""
        return self.a.path, self.e.path

    def load(self) -> np.ndarray:
        """Reads both tensors."""
        rows = self.a.read().reshape(self.shape).astype(np.float64)
        return (rows * self.e.read().astype(np.float64).reshape(-1, 1)).astype(self.dtype)


@dataclass(frozen=True)
class ModuleEntry:
    """Everything an adapter knows about one module before reading it.

    Attributes:
        path: The stored module path, for messages.
        parameter: The parameter's name where a parameter, not a module, is adapted.
        update: What there is to read, where it is in memory already.
        kind: Or "embedding", "convolution", "expert": what the module is in a model.

    """

    path: str
    scale: float
    B: Factor
    A: Factor
    parameter: str | None = None
    update: LowRankUpdate | None = None
    kind: str = "linear"

    @cached_property
    def dtype(self) -> np.dtype:
        """The type B and A are loaded in: the wider of the two."""
        B, A = self.B.dtype, self.A.dtype
        return B if B == A else np.result_type(B, A)

    @cached_property
    def eps(self) -> float:
        """Machine epsilon of the stored precision.

        float64's only when both factors are stored in float64: a product is known no better than
        its coarser factor. float32's for everything narrower, by the definition of the numerical
        rank (the stored bits are the truth, and the arithmetic on them is float32).
        """
        both = self.B.dtype == np.float64 and self.A.dtype == np.float64
        return float(np.finfo(np.float64 if both else np.float32).eps)

    def load(self) -> LowRankUpdate:
        """Reads both factors."""
        if self.update is not None:
            return self.update
        B, A = self.B.load(), self.A.load()
        dtype = self.dtype
        return LowRankUpdate(B.astype(dtype, copy=False), A.astype(dtype, copy=False), self.scale)
