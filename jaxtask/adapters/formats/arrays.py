"""An adapter made of arrays instead of a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxtask.adapters.adapter import Adapter, collect_entries
from jaxtask.adapters.factors import ArrayFactor, ModuleEntry
from jaxtask.adapters.keys import ModuleKey, module_keys
from jaxtask.adapters.update import LowRankUpdate
from jaxtask.errors import AdapterError


def adapter_from_factors(
    name: str,
    factors: Mapping[str | ModuleKey, tuple[ArrayLike, ArrayLike] | LowRankUpdate],
    base_model: str | None,
) -> Adapter:
    """An `Adapter` of arrays: ``{module: (B, A)}`` or ``{module: LowRankUpdate}``.

    Raises:
        AdapterError: For arrays that cannot be factors; names the adapter and the module.

    """
    keys = module_keys(module for module in factors if isinstance(module, str))
    named = []
    for module, given in factors.items():
        if isinstance(module, str):
            key, path = keys[module], module
        else:
            key, path = ModuleKey(*module), f"{module[0]}:{module[1]}"
        named.append((key, _entry(f"adapter '{name}', module '{path}'", path, given)))
    provenance: dict[str, Any] = {
        "source": "memory",
        "format": "memory",
        "config": {},
        "excluded": {},
        "notes": [],
        "approximate": None,
    }
    entries = collect_entries(named, f"adapter '{name}'")
    return Adapter(name, base_model or None, provenance, entries)


def _entry(
    where: str, path: str, given: tuple[ArrayLike, ArrayLike] | LowRankUpdate
) -> ModuleEntry:
    if isinstance(given, LowRankUpdate):
        scale, pair = float(given.scale), (given.B, given.A)
    else:
        try:
            B, A = given
        except (TypeError, ValueError) as error:
            raise AdapterError(f"{where}: expected a pair (B, A)") from error
        scale, pair = 1.0, (np.asarray(B), np.asarray(A))
    factors = []
    for letter, array in zip("BA", pair, strict=True):
        # bfloat16 is a type that NumPy itself does not know: it is recognised by its name.
        stored_as = array.dtype.name
        if stored_as not in ("float64", "float32", "float16", "bfloat16"):
            raise AdapterError(
                f"{where}: {letter} has type {stored_as}, expected float64, float32, float16 or "
                "bfloat16"
            )
        wide = array.astype(np.float64 if stored_as == "float64" else np.float32, copy=False)
        if not np.isfinite(wide).all():
            raise AdapterError(f"{where}: {letter} holds values that are not finite")
        factors.append(ArrayFactor(wide, stored_as))
    try:
        dtype = np.result_type(factors[0].dtype, factors[1].dtype)
        B, A = (factor.array.astype(dtype, copy=False) for factor in factors)
        update = LowRankUpdate(B, A, scale)  # checks that the shapes chain
    except AdapterError as error:
        raise AdapterError(f"{where}: {error}") from error
    return ModuleEntry(path, scale, factors[0], factors[1], update=update)
