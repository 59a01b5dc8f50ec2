"""Regular expressions of users and strangers, matched in bounded time."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Collection
from functools import lru_cache
from typing import Any

from jaxtask.errors import JaxtaskError

# Lists of all modules of a large model are written as one expression.
_MAX_LENGTH = 50_000
# `regex` copies what is repeated, as often as it must be there; names of modules are short.
_MAX_COPIES = 10_000
_REPEAT = re.compile(r"\{\s*(\d+)")
_SECONDS = 2.0
_MAX_KNOWN = 100_000  # answers that are kept


class Patterns:
    """Matches expressions of one source; all that together takes at most about `seconds`.

    The meaning is that of Python's `re`, which cannot be stopped: some expressions of thirty
    characters take it years. What was asked before is not matched again, so that many tasks of one
    source may ask the same.

    Args:
        error: What is raised for what is no expression, or takes too long.
        seconds: Time limit in seconds for compiling and matching them all.

    """

    def __init__(self, error: type[JaxtaskError], seconds: float = _SECONDS) -> None:
        self._error = error
        self._left = seconds
        self._known: dict[tuple[str, str, bool], bool] = {}

    def check(self, pattern: str, what: str) -> None:
        """Raise `error` unless `pattern`, which messages call `what`, is an expression."""
        self._compiled(pattern, what)

    def check_end(self, pattern: str, what: str) -> None:
        """The same for `matches_end`."""
        self._compiled(_end(pattern), what)

    def fullmatch(self, pattern: str, name: str, what: str) -> bool:
        """Whether all of `name` matches, as `re.fullmatch` has it."""
        return self._matches(pattern, name, what, at_end=False)

    def matches_end(self, pattern: str, name: str, what: str) -> bool:
        """Whether `pattern` matches the last parts of `name`: PEFT's rule for patterns.

        An expression for the last parts, or with ``^`` for all of them.
        """
        return self._matches(pattern, name, what, at_end=True)

    def chosen(
        self, targets: str | Collection[str], names: Collection[str], what: str, there: str
    ) -> set[str]:
        """The names of modules that `targets` choose, by PEFT's rule.

        Args:
            targets: An expression for whole names, or a list of names or of their last parts.
            names: Names to choose from.
            what: What messages call a target.
            there: What messages say of `names`.

        Raises:
            JaxtaskError: Of the kind `error`: a target chooses nothing.

        """
        found = set()
        for target in [targets] if isinstance(targets, str) else targets:
            if isinstance(targets, str):
                told = f"{what} {target!r:.80}"
                chosen = {name for name in names if self.fullmatch(target, name, told)}
            else:
                chosen = {name for name in names if ends_with(name, target)}
            if not chosen:
                raise self._error(f"{what} {target!r} matches no module; {there}")
            found |= chosen
        return found

    def _compiled(self, pattern: str, what: str) -> Any:
        if len(pattern) > _MAX_LENGTH:
            raise self._error(
                f"{what}: has {len(pattern):,} characters, expected {_MAX_LENGTH:,} at most"
            )
        self._check_left(what)
        began = time.monotonic()
        try:
            return _compile(pattern)
        except ValueError as error:
            raise self._error(f"{what}: is not a regular expression: {error}") from error
        finally:
            self._left -= time.monotonic() - began

    def _check_left(self, what: str) -> None:
        if self._left <= 0:
            raise self._error(f"{what}: this and the expressions before it take too long")

    def _matches(self, pattern: str, name: str, what: str, at_end: bool) -> bool:
        asked = pattern, name, at_end
        if asked in self._known:
            return self._known[asked]
        compiled = self._compiled(_end(pattern) if at_end else pattern, what)
        match = compiled.match if at_end else compiled.fullmatch
        self._check_left(what)
        began = time.monotonic()
        try:
            found = match(name, timeout=self._left) is not None
        except TimeoutError:
            raise self._error(
                f"{what}: takes too long to match {name!r:.100}: expected an expression without "
                "repetitions of repetitions"
            ) from None
        finally:
            self._left -= time.monotonic() - began
        if len(self._known) < _MAX_KNOWN:
            self._known[asked] = found
        return found


def ends_with(name: str, target: str) -> bool:
    """Whether a module's name is `target` or ends with it, part by part."""
    return f".{name}".endswith(f".{target}")


def _end(pattern: str) -> str:
    return rf"(.*\.)?({pattern})$"


@lru_cache(maxsize=4096)
def _compile(pattern: str) -> Any:
    """Compiled by `regex`, if Python's `re` takes it too.

    Raises:
        ValueError: For all else, and for what repeats or nests too much.

    """
    import regex

    copies = 1
    for count in _REPEAT.findall(pattern):
        copies *= max(int(count[:20]), 1)
        if copies > _MAX_COPIES:
            raise ValueError("it asks for too many repetitions")
    try:
        with warnings.catch_warnings():  # of what later versions of Python may read otherwise
            warnings.simplefilter("ignore", FutureWarning)
            re.compile(pattern)
        return regex.compile(pattern, regex.VERSION0)
    except (re.error, regex.error) as error:
        raise ValueError(f"{error}") from error
    except RecursionError as error:
        raise ValueError("its parentheses are nested too deeply") from error
    except (OverflowError, MemoryError) as error:
        raise ValueError("it asks for too many repetitions") from error
