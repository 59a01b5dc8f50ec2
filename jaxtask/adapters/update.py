"""One module's task vector in factored form."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from jaxtask.errors import AdapterError


@dataclass(frozen=True, eq=False)
class LowRankUpdate:
    """ΔW = scale · B @ A.

    The scale stays a separate float64 number on purpose. Multiplied into float32 factors it would
    round every entry, each by a different amount, and so turn the column space of B by about the
    float32 epsilon; as a factor of the singular values it changes no space at all.

    Attributes:
        B: [d_out, r] float32 or float64.
        A: [r, d_in] same dtype as B.
        scale: A finite factor of the product, by PEFT α/r or α/√r.

    Raises:
        AdapterError: B and A are not two-dimensional floating arrays of one type whose shapes
            chain, or the scale is not finite.

    """

    B: np.ndarray
    A: np.ndarray
    scale: float = 1.0

    def __post_init__(self) -> None:
        for name, factor in (("B", self.B), ("A", self.A)):
            if not isinstance(factor, np.ndarray) or factor.ndim != 2 or 0 in factor.shape:
                found = getattr(factor, "shape", type(factor).__name__)
                raise AdapterError(
                    f"{name} is {found}, expected a two-dimensional NumPy array that is not empty"
                )
            if factor.dtype not in (np.float32, np.float64):
                raise AdapterError(f"{name} is {factor.dtype}, expected float32 or float64")
        if self.B.dtype != self.A.dtype:
            raise AdapterError(f"B is {self.B.dtype} but A is {self.A.dtype}: expected one type")
        if self.B.shape[1] != self.A.shape[0]:
            raise AdapterError(
                f"B {self.B.shape} and A {self.A.shape} do not chain: "
                f"B has {self.B.shape[1]} columns, A has {self.A.shape[0]} rows"
            )
        if not math.isfinite(self.scale):
            raise AdapterError(f"the scale is {self.scale}, expected a finite number")

    def dense(self) -> np.ndarray:
        """ΔW as a float64 array [d_out, d_in]. For looking and tests: it is d_out × d_in big."""
        return float(self.scale) * (self.B.astype(np.float64) @ self.A.astype(np.float64))
