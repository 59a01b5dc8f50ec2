"""Names of strangers in files: text in a spreadsheet, in Markdown and in a figure."""

import re

from jaxtask.terminal import visible

# What spreadsheets take for the beginning of a formula.
_FORMULA = tuple("=+-@\t\r")
_INLINE = re.compile(r"[\\`*\[\]<>|~$&]|(?<![^\W_])_|_(?![^\W_])")
_LEADING = re.compile(r"^(\s*\d*)(#|[-+](?=\s)|[.)](?=\s))")


def csv_text(text: str) -> str:
    """`text` as a cell that no spreadsheet computes: an apostrophe stands before a formula."""
    shown = visible(text)
    return f"'{shown}" if text.startswith(_FORMULA) else shown


def markdown(text: str) -> str:
    """`text` as Markdown that shows just that, in a line or in a cell of a table."""
    return _LEADING.sub(r"\1\\\2", _INLINE.sub(r"\\\g<0>", visible(text)))
