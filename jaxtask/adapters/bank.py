"""Many adapters of one base model, handed out one module at a time."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from jaxtask.adapters.adapter import Adapter, ModuleShape
from jaxtask.adapters.base_names import base_conflicts
from jaxtask.adapters.formats.arrays import adapter_from_factors
from jaxtask.adapters.keys import ModuleKey, strip_wrappers
from jaxtask.adapters.update import LowRankUpdate
from jaxtask.errors import AdapterError

if TYPE_CHECKING:
    from jaxtask.adapters.adapter import Adapter


def describe_bank(bank: AdapterBank) -> dict[str, Any]:
    """``base_model``, ``tasks``, ``modules`` (how many), ``notes``, and one entry an adapter."""
    return {
        "base_model": bank.base_model,
        "tasks": list(bank.tasks),
        "modules": len(bank.modules),
        "notes": list(bank.notes),
        "adapters": [describe_adapter(adapter) for adapter in bank.adapters],
    }


def describe_adapter(adapter: Adapter) -> dict[str, Any]:
    """Name, base and provenance, and for each module type what its layers look like.

    ``modules`` maps a module type to its ``layers``, and to the distinct ``shapes`` (d_out × d_in),
    ``ranks``, ``scalings`` and ``dtypes`` (as stored) over those layers; and, for a difference of
    checkpoints, to the least and largest share of ‖ΔW‖² that the factors hold, ``kept``.
    """
    extracted = adapter.provenance.get("extracted", {}).get("modules", {})
    modules: dict[str, dict[str, Any]] = {}
    seen = set()  # most layers are alike
    for key, shape in adapter.modules.items():
        entry = adapter.entry(key)
        group = modules.setdefault(
            key.module,
            {"layers": [], "shapes": [], "ranks": [], "scalings": [], "dtypes": []},
        )
        group["layers"].append(key.layer)
        if told := extracted.get(strip_wrappers(entry.path)):
            least, largest = group.get("kept", (1.0, 0.0))
            group["kept"] = [min(least, told["kept"]), max(largest, told["kept"])]
        what = (key.module, *shape, entry.scale, entry.B.stored_as, entry.A.stored_as)
        if what in seen:
            continue
        seen.add(what)
        values = {
            "shapes": [shape.d_out, shape.d_in],
            "ranks": shape.rank,
            "scalings": entry.scale,
            "dtypes": entry.B.stored_as,
        }
        for field, value in values.items():
            if value not in group[field]:
                group[field].append(value)
        if entry.A.stored_as not in group["dtypes"]:
            group["dtypes"].append(entry.A.stored_as)
    provenance = adapter.provenance
    return {
        "name": adapter.name,
        "base_model": adapter.base_model,
        "format": provenance.get("format"),
        "source": provenance.get("source"),
        "approximate": provenance.get("approximate"),
        "modules": dict(sorted(modules.items())),
        "excluded": dict(provenance.get("excluded", {})),
        "notes": list(provenance.get("notes", [])),
    }


@dataclass(frozen=True, eq=False)
class ModuleStack:
    """n adapters' factors of one module, zero-padded to one rank: ΔW_i = scale_i · B_i @ A_i.

    Attributes:
        B: [n, d_out, r] float32, or float64 if any stored factor is float64.
        A: [n, r, d_in] same dtype as B.
        scale: [n] float64.
        eps: [n] float64: machine epsilon of the stored precision of each.

    """

    B: np.ndarray
    A: np.ndarray
    scale: np.ndarray
    eps: np.ndarray


class AdapterBank:
    """Tasks × modules. Different ranks and different target modules are normal.

    Nothing is read when a bank is made; `stack` reads one module of the tasks asked for, so a bank
    may be far larger than memory.

    Base names are compared as `base_names` explains: an unknown base matches every other.

    Attributes:
        tasks: The adapters' names, in the order given.
        adapters: The adapters, in the same order.
        base_model: The first base model that is known, or None.
        modules: The union of the adapters' module keys, sorted.
        notes: What a reader of results should know about the bank as a whole.

    Raises:
        AdapterError: For no adapters, two of one name, adapters of different base models
            (`allow_base_mismatch` turns this into a note), and a module whose d_out or d_in differ.

    """

    def __init__(
        self,
        adapters: Sequence[Adapter],
        *,
        allow_base_mismatch: bool = False,
        notes: Sequence[str] = (),
    ) -> None:
        self.adapters = tuple(adapters)
        self.tasks = tuple(adapter.name for adapter in self.adapters)
        if not self.adapters:
            raise AdapterError("no adapter was given")
        for name in self.tasks:
            if self.tasks.count(name) > 1:
                raise AdapterError(f"two adapters are called '{name}': names must differ")
        bases = [(adapter.name, adapter.base_model) for adapter in self.adapters]
        conflict, base_notes = base_conflicts(bases)
        if conflict is not None and not allow_base_mismatch:
            raise AdapterError(
                f"{conflict}; adapters of different base models cannot be compared. If the two "
                "names mean one model, pass allow_base_mismatch=True"
            )
        self.notes = (*notes, *base_notes)
        if conflict is not None:
            self.notes += (f"{conflict}, allowed on request.",)
        self.base_model = next((base for _, base in bases if base), None)
        self._shapes: dict[ModuleKey, ModuleShape] = {}
        self._present: dict[ModuleKey, list[int]] = {}
        for task in range(len(self.adapters)):
            self._add(task)
        self.modules = tuple(sorted(self._shapes))
        self.notes += _disjoint_notes(self.adapters)

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self.tasks[:4])) + (", …" if len(self) > 4 else "")
        return f"AdapterBank({len(self)} tasks, {len(self.modules)} modules: {shown})"

    def __len__(self) -> int:
        return len(self.adapters)

    def __iter__(self) -> Iterator[Adapter]:
        return iter(self.adapters)

    def __getitem__(self, task: str | int) -> Adapter:
        """The adapter of a task, by its name or its place.

        Raises:
            KeyError: There is no task of this name.
            IndexError: There is no such place.

        """
        if isinstance(task, str):
            if task not in self.tasks:
                raise KeyError(f"no task {task!r}; tasks are {', '.join(self.tasks[:8])}")
            return self.adapters[self.tasks.index(task)]
        return self.adapters[operator.index(task)]

    def _add(self, task: int) -> None:
        adapter = self.adapters[task]
        for key, shape in adapter.modules.items():
            known = self._shapes.setdefault(key, shape)
            if (known.d_out, known.d_in) != (shape.d_out, shape.d_in):
                other = self.adapters[self._present[key][0]]
                why = "they do not belong to one base model"
                exchanged = (known.d_out, known.d_in) == (shape.d_in, shape.d_out)
                if exchanged and (other.entry(key).parameter or adapter.entry(key).parameter):
                    why = "one has its sides exchanged, as PEFT before 0.19 saved parameters"
                raise AdapterError(
                    f"module {tuple(key)} is {known.d_out} × {known.d_in} in adapter "
                    f"'{other.name}' but {shape.d_out} × {shape.d_in} in adapter "
                    f"'{adapter.name}': {why}"
                )
            for other_task in self._present.get(key, [])[:1]:
                self._check_parameter(key, self.adapters[other_task], adapter)
            self._shapes[key] = known._replace(rank=max(known.rank, shape.rank))
            self._present.setdefault(key, []).append(task)

    @staticmethod
    def _check_parameter(key: ModuleKey, first: Adapter, second: Adapter) -> None:
        """One key must mean one parameter.

        Where the file of an adapted parameter does not tell which of several it is, two adapters
        of different parameters of one module would otherwise meet under one key. A key that ends
        with the parameter's name tells: an expert's ``down_proj`` is the same weight whether a
        release of the model has it in a module of its own or stacked with the others'.
        """
        names = []
        for adapter in (first, second):
            name = adapter.entry(key).parameter
            names.append(None if key.module.rpartition(".")[2] == name else name)
        if names[0] != names[1]:
            shown = [f"parameter '{name}'" if name else "the module itself" for name in names]
            raise AdapterError(
                f"module {tuple(key)} is {shown[0]} in adapter '{first.name}' but {shown[1]} in "
                f"adapter '{second.name}': different weights cannot be compared"
            )

    def shape(self, key: ModuleKey) -> ModuleShape:
        """d_out, d_in, and the largest rank over the tasks that have the module."""
        self._check(key)
        return self._shapes[key]

    def present(self, key: ModuleKey) -> np.ndarray:
        """The sorted indices [n] (int64) of the tasks that have the module."""
        self._check(key)
        return np.asarray(self._present[key], dtype=np.int64)

    def dtype(self, key: ModuleKey) -> np.dtype:
        """float64 if any stored factor of the module is float64, else float32; without reading."""
        self._check(key)
        return np.result_type(*{self.adapters[task].dtype(key) for task in self._present[key]})

    def stack(self, key: ModuleKey, tasks: Sequence[int] | np.ndarray) -> ModuleStack:
        """Reads one module of the given tasks (indices into `tasks`), padded to `shape(key).rank`.

        Padding is zeros in B's columns and A's rows, which leaves every ΔW unchanged. Memory: the
        stack and one adapter's factors.

        Raises:
            AdapterError: For a task without the module.

        """
        d_out, d_in, rank = self.shape(key)
        n = len(tasks)
        B = np.zeros((n, d_out, rank), self.dtype(key))
        A = np.zeros((n, rank, d_in), self.dtype(key))
        scale, eps = np.zeros(n), np.zeros(n)
        for i, task in enumerate(tasks):
            if not 0 <= task < len(self.adapters):
                raise AdapterError(f"there is no task {task}: the bank has {len(self.tasks)}")
            adapter = self.adapters[task]
            update = adapter.load(key)
            r = update.B.shape[1]
            B[i, :, :r], A[i, :r] = update.B, update.A
            scale[i], eps[i] = update.scale, adapter.entry(key).eps
        return ModuleStack(B, A, scale, eps)

    def reordered(self, tasks: Sequence[str]) -> AdapterBank:
        """The same bank with its tasks in this order."""
        by_name = dict(zip(self.tasks, self.adapters, strict=True))
        bank = AdapterBank([by_name[name] for name in tasks], allow_base_mismatch=True)
        bank.base_model, bank.notes = self.base_model, self.notes
        return bank

    def describe(self) -> dict[str, Any]:
        """A JSON-able summary: what `jaxtask inspect --json` prints. Reads no tensor data."""
        return describe_bank(self)

    @classmethod
    def from_factors(
        cls,
        factors: Mapping[
            str, Mapping[str | ModuleKey, tuple[ArrayLike, ArrayLike] | LowRankUpdate]
        ],
        *,
        base_model: str | None = None,
    ) -> AdapterBank:
        """A bank of factors in memory: ``{task: {module: (B, A)}}``, ΔW = B @ A.

        A module is a `ModuleKey` or a path (``"layers.0.self_attn.q_proj"``). B [d_out, r] and A
        [r, d_in] are anything `numpy.asarray` takes, JAX arrays included; float16 and bfloat16
        become float32. Give a `LowRankUpdate` to keep a scale apart. Arrays are not copied where
        their type allows it.

        Raises:
            AdapterError: For arrays that are no such factors; names the task and the module.

        """
        adapters = [adapter_from_factors(name, f, base_model) for name, f in factors.items()]
        return cls(adapters)

    def _check(self, key: ModuleKey) -> None:
        if key not in self._shapes:
            names = sorted({known.module for known in self.modules})
            raise AdapterError(
                f"no adapter has a module {tuple(key)}; modules are {', '.join(names[:8])}"
                f"{', …' if len(names) > 8 else ''}"
            )


def _disjoint_notes(adapters: Sequence[Adapter]) -> tuple[str, ...]:
    """Says which adapters share no module, as their comparison holds nothing but NaN."""
    alike: dict[frozenset[ModuleKey], list[str]] = {}  # many adapters, few kinds of targets
    for adapter in adapters:
        alike.setdefault(frozenset(adapter.modules), []).append(adapter.name)
    kinds = list(alike.items())
    pairs = [
        (first, second)
        for i, (modules, first) in enumerate(kinds)
        for others, second in kinds[i + 1 :]
        if modules.isdisjoint(others)
    ]
    number = sum(len(first) * len(second) for first, second in pairs)
    if not number:
        return ()
    shown = ", ".join(f"{first[0]!r} and {second[0]!r}" for first, second in pairs[:3])
    of = len(adapters) * (len(adapters) - 1) // 2
    if number == of:
        return (f"NO two adapters share a module, so nothing can be compared: {shown}.",)
    return (f"{number} of {of} pairs of adapters share no module: such as {shown}.",)
