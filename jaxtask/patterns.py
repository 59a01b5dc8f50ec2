"""Regular expressions of users and strangers, matched in bounded time."""

from __future__ import annotations

import re
import time
from functools import lru_cache
from typing import Any

from jaxtask.errors import JaxtaskError

# Lists of all modules of a large model are written as one expression: some hundred kilobytes.
_MAX_LENGTH = 200_000
_SECONDS = 2.0


class Patterns:
    """Matches expressions of one source; all its matches together take at most `seconds`.

    The meaning is that of Python's `re`, which cannot be stopped: some expressions of thirty
    characters take it years.

    Args:
        error: What is raised for what is no expression, or takes too long.
        seconds: For all matches together.

    """

    def __init__(self, error: type[JaxtaskError], seconds: float = _SECONDS) -> None:
        self._error = error
        self._left = seconds

    def check(self, pattern: str, what: str) -> None:
        """Raise `error` unless `pattern`, which messages call `what`, is an expression."""
        self._compiled(pattern, what)

    def fullmatch(self, pattern: str, name: str, what: str) -> bool:
        """Whether all of `name` matches, as `re.fullmatch` has it."""
        return self._run(self._compiled(pattern, what).fullmatch, name, what)

    def matches_end(self, pattern: str, name: str, what: str) -> bool:
        """Whether `pattern` matches the last parts of `name`: PEFT's rule for patterns.

        An expression for the last parts, or with ``^`` for all of them.
        """
        return self._run(self._compiled(rf"(.*\.)?({pattern})$", what).match, name, what)

    def _compiled(self, pattern: str, what: str) -> Any:
        if len(pattern) > _MAX_LENGTH:
            raise self._error(
                f"{what}: has {len(pattern):,} characters, expected {_MAX_LENGTH:,} at most."
            )
        try:
            return _compile(pattern)
        except ValueError as error:
            raise self._error(f"{what}: is not a regular expression: {error}.") from error

    def _run(self, match: Any, name: str, what: str) -> bool:
        began = time.monotonic()
        try:
            return match(name, timeout=max(self._left, 1e-3)) is not None
        except TimeoutError:
            raise self._error(
                f"{what}: takes too long to match {name!r:.100}: expected an expression without "
                "repetitions of repetitions."
            ) from None
        finally:
            self._left -= time.monotonic() - began


@lru_cache(maxsize=4096)
def _compile(pattern: str) -> Any:
    """Compiled by `regex`, if Python's `re` takes it too. Raises `ValueError`."""
    import regex

    try:
        re.compile(pattern)
        return regex.compile(pattern, regex.VERSION0)
    except (re.error, regex.error) as error:
        raise ValueError(f"{error}") from error
    except RecursionError as error:
        raise ValueError("its parentheses are nested too deeply") from error
    except (OverflowError, MemoryError) as error:
        raise ValueError("it asks for too many repetitions") from error
