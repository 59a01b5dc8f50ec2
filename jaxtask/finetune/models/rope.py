"""Rotary position embeddings: the angles of Llama 1 to 3.x, and turning by them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxtask.errors import ModelError


@dataclass(frozen=True)
class Llama3Scaling:
    """Scaling of Llama 3.1.

    Wavelengths above `positions`/`low` grow by `factor`, those below `positions`/`high` stay, and
    those between are interpolated.
    """

    factor: float
    low: float
    high: float
    positions: float


@dataclass(frozen=True)
class Rope:
    """The base of the wavelengths, and what is done to them.

    Attributes:
        factors: Wavelengths grow by these, given one by one.

    """

    theta: float
    scaling: Llama3Scaling | None = None
    factors: tuple[float, ...] | None = None

    def frequencies(self, head_width: int) -> np.ndarray:
        """Radians per position of each pair of features, [head_width / 2] float32."""
        exponent = np.arange(0, head_width, 2, dtype=np.float32) / np.float32(head_width)
        plain = 1 / np.power(np.float32(self.theta), exponent)
        if self.factors is not None:
            return plain / np.asarray(self.factors, np.float32)
        if self.scaling is None:
            return plain
        s = self.scaling
        turns = s.positions * plain / (2 * math.pi)
        blend = np.clip((turns - s.low) / (s.high - s.low), 0, 1)
        return ((1 - blend) * plain / s.factor + blend * plain).astype(np.float32)


def rotation(positions: Array, frequencies: np.ndarray) -> tuple[Array, Array]:
    """Cosines and sines [..., 1, head_width / 2] float32 of `positions` [...]."""
    angles = positions[..., None, None].astype(jnp.float32) * frequencies
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: Array, turn: tuple[Array, Array]) -> Array:
    """`x` [..., heads, head_width], feature n paired with n + head_width/2, turned by `turn`."""
    cos, sin = turn
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = (first * cos - second * sin, second * cos + first * sin)
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)


def read_rope(fields: dict[str, Any], where: str) -> Rope:
    """Read `rope_parameters`, or `rope_theta` and `rope_scaling` of older files.

    Files without `rope_theta` mean 10000.

    Raises:
        ModelError: The scaling is another than `llama3`.

    """
    scaling = fields.get("rope_parameters") or fields.get("rope_scaling") or {}
    if not isinstance(scaling, dict):
        raise ModelError(
            f"{where}: the rotary scaling is a {type(scaling).__name__}, expected an object"
        )
    theta = _positive(scaling.get("rope_theta") or fields.get("rope_theta") or 10000.0)
    if theta is None:
        raise ModelError(f"{where}: rope_theta is no number, expected one above 0")
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind == "default":
        return Rope(theta)
    if kind != "llama3":
        raise ModelError(f"{where}: rope_type is {kind!r:.80}, expected 'default' or 'llama3'")
    names = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    numbers = []
    for name in names:
        # Newer files may keep the last beside the scaling instead of in it.
        value = scaling.get(name, fields.get(name))
        number = _positive(value)
        if number is None:
            raise ModelError(
                f"{where}: the llama3 scaling's {name} is {value!r:.80}, expected a number above 0"
            )
        numbers.append(number)
    return Rope(theta, Llama3Scaling(*numbers))


def _positive(value: Any) -> float | None:
    """A finite number above 0 that float32 has; else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e38:
        return None
    return float(value)


def rope_fields(rope: Rope) -> dict[str, Any]:
    """The fields of a `config.json` that `read_rope` reads back."""
    if rope.factors is not None:
        raise ModelError("a model with given rotary factors cannot be written as a config.json")
    fields: dict[str, Any] = {"rope_theta": rope.theta}
    if s := rope.scaling:
        fields["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": s.factor,
            "low_freq_factor": s.low,
            "high_freq_factor": s.high,
            "original_max_position_embeddings": int(s.positions),
        }
    return fields
