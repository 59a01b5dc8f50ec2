"""Settings of an experiment's file: every one checked, every mistake named."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from jaxtask.errors import ExperimentError, shown
from jaxtask.finetune.recipe.checks import Check


def setting(check: Check, default: Any = dataclasses.MISSING) -> Any:
    """A field of a dataclass with its check."""
    return field(default=default, metadata={"check": check})


def settings(kind: type, values: Any, key: str) -> Any:
    """A dataclass `kind` of settings from names and values.

    Raises:
        ExperimentError: A name that `kind` has no field of, a field without a value, or a value
            that its check refuses. Names the key.

    """
    values = mapping(values, key)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    check_keys(values, list(fields), f"{key}.")
    taken = {}
    for name, f in fields.items():
        check = f.metadata.get("check")
        if name in values:
            taken[name] = take(check, values[name], f"{key}.{name}") if check else values[name]
        elif f.default is dataclasses.MISSING:
            expected = f.metadata["check"].expected
            raise ExperimentError(f"{key}.{name} is missing, expected {expected}")
    return kind(**taken)


def take(check: Check, value: Any, key: str) -> Any:
    """The value, if the check takes it."""
    try:
        return check.take(value)
    except ValueError:
        raise ExperimentError(f"{key} is {shown(value)}, expected {check.expected}") from None


def mapping(value: Any, key: str) -> Mapping[str, Any]:
    """The value, if it is names with values."""
    if not isinstance(value, Mapping):
        raise ExperimentError(f"{key} is {shown(value)}, expected names with values")
    return value


def check_keys(values: Mapping[str, Any], known: Sequence[str], prefix: str = "") -> None:
    """Refuse a key that is none of the known ones."""
    for key in values:
        if key not in known:
            names = ", ".join(known)
            raise ExperimentError(f"{prefix}{key!s:.100} is no setting, expected one of {names}")
