"""What is printed: data is never markup, and never a command to the terminal."""

from __future__ import annotations

import json
import sys
import unicodedata
from typing import Any

from rich.console import Console
from rich.text import Text

# Joiners, which scripts and emoji need, and which move nothing.
_HARMLESS = frozenset("\u200c\u200d")


def visible(text: str) -> str:
    """`text` with all that would not show, or would move other text, as escapes.

    These are control characters (also line breaks), controls of the direction of writing and other
    invisible ones, line separators, and bytes of names that are not UTF-8.
    """
    return "".join(map(_visible, text)) if not text.isprintable() else text


def _visible(character: str) -> str:
    if character.isprintable() or character in _HARMLESS:
        return character
    if unicodedata.category(character) == "Zs":  # wide and narrow spaces
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


class Terminal(Console):
    """A Rich console for which every text is data."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, markup=False, highlight=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """As a Rich console does, but without markup and with `visible` text."""
        return super().render_str(visible(text), **{**options, "markup": False, "emoji": False})


def standard_output() -> Terminal:
    """For what was asked for."""
    return Terminal()


def standard_error() -> Terminal:
    """For all else."""
    return Terminal(stderr=True)


def print_json(value: Any) -> None:
    """Print a value as one line of JSON, whatever standard output can encode."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    text = json.dumps(value, ensure_ascii=not unicode)
    print("".join(c if c.isprintable() else _json_escape(c) for c in text))


def _json_escape(character: str) -> str:
    return json.dumps(character)[1:-1]
