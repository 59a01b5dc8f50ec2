"""The file ``findings.json``: findings as JSON, written and read.

Arrays are nested lists, NaN is null, infinities are "inf" and "-inf", and the two names of a
key stand beside each other as in "rec ~ cosine". Reading goes by the types of the fields, so that
what comes out is what went in.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from jaxtask.errors import AnalysisError, shown
from jaxtask.names import check_path
from jaxtask.text_files import read_object

if TYPE_CHECKING:
    from jaxtask.analysis.findings import Findings

FILE = "findings.json"
FORMAT = "jaxtask findings 1"
# Findings of about 400 tasks under every metric; beyond that, analyzing again takes less memory.
_MAX_BYTES = 1 << 30
_BETWEEN = " ~ "

# Sizes of the arrays: T tasks, L layers, M module types, N tasks with a group, or a number.
_SQUARE = ("T", "T")
_SIZES: dict[str, tuple[str | int, ...]] = {
    "share": ("L", "M"),
    "profiles": ("L", "M"),
    "chance_profiles": ("L", "M"),
    "silhouette": ("N",),
    "pca": ("T", 2),
    "pca_shares": (2,),
    "mds": ("T", 2),
    "mds_shares": (2,),
    "linkage": ("T-1", 4),
    "order": ("T",),
}
# Of what `about` says, what does not come from the result.
_ABOUT: dict[str, Any] = {"weights": str, "seed": int, "resamples": int, "level": float}
_TYPES: dict[str, type] = {"order": int, "direction": str}


def plain(value: Any) -> Any:
    """Anything in findings as JSON has it, see above."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {
            _BETWEEN.join(k) if isinstance(k, tuple) else str(k): plain(v) for k, v in value.items()
        }
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float | np.floating):
        number = float(value)
        return number if np.isfinite(number) else None if np.isnan(number) else str(number)
    return value.item() if isinstance(value, np.generic) else value


def to_text(findings: "Findings") -> str:
    """The text of a ``findings.json``."""
    told = {"format": FORMAT, **plain(findings)}
    return json.dumps(told, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def read_findings(folder: str | Path) -> "Findings":
    """The findings that `jaxtask analyze --out` wrote, equal to those that `analyze` returned.

    Args:
        folder: The folder.

    Raises:
        AnalysisError: It has no ``findings.json``, or one that is damaged or of another version.
            Names the file, the key, what was found and what was expected.

    """
    from jaxtask.analysis.findings import Findings

    path = check_path(Path(folder), "findings", AnalysisError) / FILE
    told = read_object(path, AnalysisError, _MAX_BYTES)
    if (found := told.pop("format", None)) != FORMAT:
        raise AnalysisError(
            f"{path}: format: found {shown(found)}, expected {FORMAT!r}"
            "; `jaxtask analyze` writes it"
        )
    reader = _Reader(str(path), told)
    findings = reader.record(Findings, told, "")
    for key, kind in _ABOUT.items():
        reader.value(kind, findings.about.get(key), f"about.{key}", key)
    if wrong := _inconsistent(findings):
        raise AnalysisError(f"{path}: {wrong}")
    return findings


def _inconsistent(findings: "Findings") -> str | None:
    """What in findings speaks of what they do not have."""
    T, holds, maps, apart = (
        len(findings.tasks),
        findings.inclusion,
        findings.maps,
        findings.separation,
    )
    tasks = [*(findings.groups or ()), *(apart.tasks if apart is not None else ())]
    variables = [*findings.cells, *findings.profiles, *findings.chance_profiles]
    variables += [name for both in findings.agreement for name in both]
    numbers: list[int] = []
    if apart is not None:
        variables.append(apart.variable)
    if holds is not None:
        variables += [holds.decided_by, *holds.parts]
        numbers += [n for some in (*holds.edges, *holds.classes) for n in some]
    if maps is not None:
        from scipy.cluster.hierarchy import is_valid_linkage

        variables.append(maps.variable)
        joined = maps.linkage[:, :2]
        whole = ((joined >= 0) & (joined < 2 * T - 1)).all() and np.isfinite(maps.linkage).all()
        if sorted(maps.order) != list(range(T)) or not (whole and is_valid_linkage(maps.linkage)):
            return "maps: found an order or linkage that does not fit the tasks"
    for task in tasks:
        if task not in findings.tasks:
            return f"found the task {shown(task)}, expected one of `tasks`"
    for name in variables:
        if name not in findings.pooled:
            return f"found the variable {shown(name)}, expected one of `pooled`"
    for n in numbers:
        if not 0 <= n < T:
            return f"inclusion: found the task number {n}, expected 0 to {T - 1}"
    return None


class _Reader:
    """Values of one file, by the types that they are to have."""

    def __init__(self, source: str, told: Mapping[str, Any]) -> None:
        self.source = source
        tasks = _length(told, "tasks")
        self.sizes = {
            "T": tasks,
            "T-1": tasks - 1,
            "L": _length(told, "about", "layers"),
            "M": _length(told, "about", "modules"),
            "N": _length(told, "separation", "tasks"),
        }

    def error(self, where: str, found: Any, expected: str) -> AnalysisError:
        where = shown(where, 100)[1:-1]  # keys are what a file has
        return AnalysisError(f"{self.source}: {where}: found {shown(found)}, expected {expected}")

    def record(self, kind: type, value: Any, where: str) -> Any:
        """A dataclass: all its fields, and no others."""
        hints = get_type_hints(kind)
        if not isinstance(value, dict):
            raise self.error(where, value, f"the fields {', '.join(hints)}")
        for name in sorted(hints.keys() ^ value.keys()):
            expected = "no such key" if name in value else "a value"
            raise self.error(f"{where}{name}", value.get(name), expected)
        return kind(**{n: self.value(hint, value[n], where + n, n) for n, hint in hints.items()})

    def value(self, kind: Any, value: Any, where: str, name: str) -> Any:
        """A value of a type; `name` is that of the field it is in."""
        if is_dataclass(kind):
            return self.record(kind, value, f"{where}.")  # type: ignore[arg-type]
        if kind is np.ndarray:
            return self.array(value, where, name)
        options = get_args(kind)
        if get_origin(kind) in (UnionType, Union):
            return None if value is None else self.value(options[0], value, where, name)
        if get_origin(kind) is Literal:
            if value not in options:
                raise self.error(where, value, " or ".join(sorted(map(repr, options))))
            return value
        if get_origin(kind) is tuple:
            if not isinstance(value, list):
                raise self.error(where, value, "a list")
            if options[-1] is not ... and len(value) != len(options):
                raise self.error(where, value, f"{len(options)} values")
            kinds = [options[0]] * len(value) if options[-1] is ... else options
            return tuple(
                self.value(kind, item, f"{where}[{n}]", name)
                for n, (kind, item) in enumerate(zip(kinds, value, strict=True))
            )
        if get_origin(kind) is not None:  # a mapping
            if not isinstance(value, dict):
                raise self.error(where, value, "a mapping")
            return {
                self.key(options[0], key, where): self.value(
                    options[1], item, f"{where}.{key}", name
                )
                for key, item in value.items()
            }
        if kind is float and _is_number(value):
            return _number(value)
        if kind is not Any and type(value) is not kind:
            raise self.error(where, value, _WORDS[kind])
        return value

    def key(self, kind: Any, key: str, where: str) -> Any:
        if kind is str:
            return key
        names = tuple(key.split(_BETWEEN))
        if len(names) != len(get_args(kind)):
            raise self.error(where, key, f"keys such as 'rec{_BETWEEN}cosine'")
        return names

    def array(self, value: Any, where: str, name: str) -> np.ndarray:
        shape = [
            size if isinstance(size, int) else self.sizes[size]
            for size in _SIZES.get(name, _SQUARE)
        ]
        kind = _TYPES.get(name, float)
        return np.array(self.items(value, shape, kind, where), kind).reshape(shape)

    def items(self, value: Any, shape: Sequence[int], kind: type, where: str) -> list[Any]:
        if not isinstance(value, list) or len(value) != shape[0]:
            raise self.error(where, value, f"a list of {shape[0]}")
        if len(shape) > 1:
            return [self.items(item, shape[1:], kind, where) for item in value]
        if kind is float and set(map(type, value)) <= {float, type(None)}:
            return value  # most lists, and NumPy makes NaN of None
        return [self.value(kind, item, where, "") for item in value]


def _length(told: Any, *keys: str) -> int:
    """Length of the list at these keys; 0 if there is none."""
    for key in keys:
        told = told.get(key) if isinstance(told, Mapping) else None
    return len(told) if isinstance(told, list) else 0


def _is_number(value: Any) -> bool:
    return value is None or type(value) in (int, float) or value in ("inf", "-inf")


def _number(value: Any) -> float:
    return float("nan" if value is None else value)


_WORDS: Mapping[Any, str] = {
    float: "a number or null",
    int: "a whole number",
    str: "a text",
    bool: "true or false",
}
