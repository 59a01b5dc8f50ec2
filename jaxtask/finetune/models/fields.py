"""Fields of a `config.json`, checked as they are read. Numbers that no model has are refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtask.errors import ModelError

# Far above any model there is, far below what fills a memory by being counted.
_MOST = {"num_hidden_layers": 10_000, "type_vocab_size": 10_000}
_WIDEST = 1 << 24


@dataclass(frozen=True)
class Fields:
    """Fields with their source. Every reader raises `ModelError` with both."""

    fields: dict[str, Any]
    where: str

    def whole(self, name: str, null: int | None = None, least: int = 1) -> int:
        """A size; `null` is what null means, if it may be null."""
        value, most = self.fields[name], _MOST.get(name, _WIDEST)
        value = null if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.refusal(name, f"a whole number from {least} to {most:,}")
        return value

    def number(self, name: str, null: float | None = None) -> float:
        """A number from 0 on and below 1; `null` is what null means, if it may be null."""
        value = self.fields[name]
        value = null if value is None else value
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
            raise self.refusal(name, "a number from 0 on and below 1")
        return float(value)

    def flag(self, name: str) -> bool:
        """True or false; null means false."""
        value = self.fields[name] or False
        if not isinstance(value, bool):
            raise self.refusal(name, "true or false")
        return value

    def expect(self, name: str, expected: str) -> None:
        """Refuses any other value than `expected`."""
        if self.fields[name] != expected:
            raise self.refusal(name, repr(expected))

    def tokens(self, name: str) -> tuple[int, ...]:
        """A token id, a list of them, or null for none."""
        value = self.fields[name]
        values = value if isinstance(value, list) else [] if value is None else [value]
        if not all(type(v) is int and abs(v) < 1 << 31 for v in values):
            raise self.refusal(name, "a token id or a list of them")
        return tuple(values)

    def refusal(self, name: str, expected: str) -> ModelError:
        """The error of a field that is not as `expected`."""
        found = shown_value(self.fields[name])
        return ModelError(f"{self.where}: {name} is {found}, expected {expected}")


def shown_value(value: Any) -> str:
    """A value for a message, not longer than a line."""
    try:
        text = repr(value)
    except ValueError:  # a number of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= 80 else text[:77] + "..."
