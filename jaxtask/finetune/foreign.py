"""What libraries of others do with files that they cannot read: raise anything, panic, remark."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


def is_fault(error: BaseException) -> bool:
    """Whether a library failed; the panics of those in Rust are no `Exception`."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def said(error: BaseException) -> str:
    """What it said, in one line that is not too long."""
    text = " ".join((str(error).strip() or repr(error)).split())
    return text if len(text) <= 200 else text[:197] + "..."


@contextmanager
def silent() -> Iterator[None]:
    """Without what libraries write past Python: panics with their stacks, remarks among JSON."""
    saved: list[tuple[int, int]] = []
    _flush()
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        for number in (1, 2):
            with suppress(OSError):  # closed
                saved.append((number, os.dup(number)))
                os.dup2(nothing, number)
        os.close(nothing)
        yield
    finally:
        _flush()
        for number, kept in saved:
            os.dup2(kept, number)
            os.close(kept)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # full, closed or none: seen later
            stream.flush()
