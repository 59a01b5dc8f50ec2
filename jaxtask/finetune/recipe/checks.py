"""What a setting may be: one check is what it expects, in words, and how it takes a value."""

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxtask.errors import JaxtaskError
from jaxtask.names import check_path
from jaxtask.patterns import Patterns

MOST = 2**31 - 1
"""The largest count: steps and other counts are int32 on devices."""
MOST_SEED = 2**63 - 1
LARGEST = 3.4e38
"""What float32 holds."""


class Check(NamedTuple):
    """`take` returns the value in its own type, or raises `ValueError`."""

    expected: str
    take: Callable[[Any], Any]


def _refuse() -> Any:
    raise ValueError


def text() -> Check:
    """Text that is not empty."""
    return Check("text", lambda v: v if isinstance(v, str) and v else _refuse())


def path() -> Check:
    """A file's or folder's path, or an id on the Hub; a ``~`` at its start is the home folder."""

    def take(value: Any) -> str:
        if not isinstance(value, str) or not value:
            _refuse()
        check_path(value, "", JaxtaskError)
        return os.path.expanduser(value)

    return Check("a path, no part of it over 255 bytes", take)


def flag() -> Check:
    """True or false."""
    return Check("true or false", lambda v: v if isinstance(v, bool) else _refuse())


def whole(least: int, most: int = MOST) -> Check:
    """A whole number from `least` to `most`."""

    def take(value: Any) -> int:
        # NumPy's are no `int`, and true is one.
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            _refuse()
        return value

    return Check(f"a whole number from {least} on, at most {most:,}", take)


def number(low: float, high: float = LARGEST, *, above: bool = False, below: bool = False) -> Check:
    """A number in [low, high]; `above` and `below` leave out the ends."""

    def take(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            _refuse()
        # Python compares whole numbers with floats exactly, however large; NaN is nowhere.
        inside = (value > low if above else value >= low) and (
            value < high if below else value <= high
        )
        return float(value) if inside else _refuse()

    start = f"above {low:g}" if above else f"from {low:g} on"
    end = (
        f", at most {high:g}"
        if high == LARGEST
        else f" and {'below' if below else 'at most'} {high:g}"
    )
    return Check(f"a number {start}{end}", take)


def one_of(*names: str) -> Check:
    """One of a few words."""
    return Check(f"one of {', '.join(names)}", lambda v: v if v in names else _refuse())


def optional(check: Check) -> Check:
    """Also null."""
    return Check(f"{check.expected}, or null", lambda v: None if v is None else check.take(v))


def either(first: Check, second: Check) -> Check:
    """What one of two checks takes."""

    def take(value: Any) -> Any:
        try:
            return first.take(value)
        except ValueError:
            return second.take(value)

    return Check(f"{first.expected}, or {second.expected}", take)


def texts(each: Check | None = None) -> Check:
    """A list of texts, or of what `each` takes, as a tuple."""
    one = each or text()

    def take(value: Any) -> tuple[str, ...]:
        if not isinstance(value, list | tuple):
            _refuse()
        return tuple(one.take(item) for item in value)

    return Check(f"a list of {'texts' if each is None else 'paths'}", take)


def filled(check: Check) -> Check:
    """A list that is not empty."""
    return Check(f"{check.expected}, not empty", lambda v: check.take(v) or _refuse())


def pair(check: Check) -> Check:
    """Two values, as a tuple."""

    def take(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple) or len(value) != 2:
            _refuse()
        return tuple(check.take(item) for item in value)

    return Check(f"two values, each {check.expected}", take)


def pairs() -> Check:
    """A list of two texts each, as a tuple of tuples."""
    each = pair(text())

    def take(value: Any) -> tuple[tuple[str, str], ...]:
        if not isinstance(value, list | tuple):
            _refuse()
        return tuple(each.take(item) for item in value)

    return Check("a list of pairs of texts", take)


def table(check: Check, keys: tuple[str, ...] = (), patterns: bool = False) -> Check:
    """Names with values: of `keys` only if given; names that are regular expressions if so."""

    def take(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            _refuse()
        budget = Patterns(JaxtaskError)
        for key in value:
            if not isinstance(key, str) or not key or (keys and key not in keys):
                _refuse()
            if patterns:
                try:
                    budget.check_end(key, "the key")
                except JaxtaskError:
                    _refuse()
        return {key: check.take(item) for key, item in value.items()}

    kind = "regular expressions" if patterns else f"names ({', '.join(keys)})" if keys else "names"
    return Check(f"{kind}, each with {check.expected}", take)
