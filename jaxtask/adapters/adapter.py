"""One adapter: its modules by key, read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from jaxtask.adapters.digest import digest
from jaxtask.adapters.factors import ModuleEntry
from jaxtask.adapters.keys import ModuleKey
from jaxtask.adapters.update import LowRankUpdate
from jaxtask.errors import AdapterError


class ModuleShape(NamedTuple):
    """The shape of one module's update, known before it is read.

    Attributes:
        d_out: Rows of ΔW.
        d_in: Columns of ΔW.
        rank: Inner columns of B·A.

    """

    d_out: int
    d_in: int
    rank: int


class Adapter:
    """A fine-tuned task as low-rank updates of a base model's modules.

    Made by `load_adapters`, `AdapterBank.from_factors` or `from_checkpoints`. Shapes, scalings and
    types are known without reading tensor data.

    Attributes:
        name: The task's name.
        base_model: What the adapter says it was trained on, or None.
        provenance: Where it came from, as JSON-able data: ``source``, ``format`` (``"peft"``,
            ``"mlx"``, ``"diffusers"``, ``"kohya"``, ``"memory"``, ``"difference"``), ``config``
            (the fields that were set), ``excluded`` (what is not part of B·A, with the reason),
            ``notes``, ``approximate`` (None, or why B·A is not all of the true update), and
            ``extracted`` for a difference of checkpoints (see `jaxtask.from_checkpoints`).
        modules: The shape of every module, in the order of the keys.

    """

    def __init__(
        self,
        name: str,
        base_model: str | None,
        provenance: Mapping[str, Any],
        entries: Mapping[ModuleKey, ModuleEntry],
    ) -> None:
        if not entries:
            raise AdapterError(f"adapter '{name}' ({provenance.get('source')}) has no module")
        self.name = name
        self.base_model = base_model
        self.provenance: dict[str, Any] = dict(provenance)
        self._entries = dict(sorted(entries.items()))
        shapes = {}
        for key, entry in self._entries.items():
            (d_out, rank), (_, d_in) = entry.B.shape, entry.A.shape
            shapes[key] = ModuleShape(d_out, d_in, rank)
        self.modules: Mapping[ModuleKey, ModuleShape] = MappingProxyType(shapes)

    def __repr__(self) -> str:
        return (
            f"Adapter({self.name!r}, base_model={self.base_model!r}, {len(self.modules)} modules)"
        )

    def path(self, key: ModuleKey) -> str:
        """The full module path as stored, for messages."""
        return self.entry(key).path

    def dtype(self, key: ModuleKey) -> np.dtype:
        """float32 or float64: the type `load` returns for one module."""
        return self.entry(key).dtype

    def load(self, key: ModuleKey) -> LowRankUpdate:
        """Reads one module's factors, B [d_out, r] and A [r, d_in], float32 or float64.

        Only the bytes of this module are read, from the memory-mapped file.

        Raises:
            AdapterError: A value is not finite, or the file has changed; names the file and the
                tensor.

        """
        return self.entry(key).load()

    def digest(self) -> str:
        """A digest of all numbers that a comparison reads, to tell whether they have changed.

        Reads the adapter's files whole.

        Raises:
            AdapterError: One cannot be read.

        """
        return digest((key, self.entry(key)) for key in self.modules)

    def entry(self, key: ModuleKey) -> ModuleEntry:
        """What is known of one module without reading it.

        Raises:
            AdapterError: It is absent.

        """
        try:
            return self._entries[key]
        except KeyError:
            raise AdapterError(
                f"adapter '{self.name}' has no module {tuple(key)}; {_known(self._entries)}"
            ) from None


def _known(keys: Iterable[ModuleKey]) -> str:
    """A short hint at the keys there are."""
    names = sorted({key.module for key in keys})
    shown = ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
    return f"its modules are {shown}"


def collect_entries(
    named: Iterable[tuple[ModuleKey, ModuleEntry]], where: str
) -> dict[ModuleKey, ModuleEntry]:
    """Entries by key.

    Raises:
        AdapterError: Two stored paths share a key.

    """
    entries: dict[ModuleKey, ModuleEntry] = {}
    for key, entry in named:
        if key in entries:
            raise AdapterError(
                f"{where}: the modules '{entries[key].path}' and '{entry.path}' both read as layer "
                f"{key.layer}, module '{key.module}'; they cannot be told apart"
            )
        entries[key] = entry
    return entries
