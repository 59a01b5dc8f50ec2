"""Names of strangers in files: text in a spreadsheet, in Markdown and in a figure."""

import re

from jaxtask.terminal import visible

# Where spreadsheets begin a formula: in a cell, also in one that a semicolon begins for them. Wide
# signs count as signs in some languages.
_FORMULA = re.compile(r"(^|;)(?=[\s\"']*[=+\-@＝＋－＠\t\r\n])")
# Also what viewers make links of: addresses.
_INLINE = re.compile(r"[\\`*\[\]<>|~$&]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.")
_LEADING = re.compile(r"^(\s*\d*)(#|[-+](?=[-\s]|$)|[.)](?=\s|$))")


def csv_text(text: str) -> str:
    """`text` as a cell that no spreadsheet computes: an apostrophe stands before a formula.

    To have the text back, take away an apostrophe before ``= + - @`` or a backslash.
    """
    return visible(_FORMULA.sub(r"\1'", text))


def markdown(text: str) -> str:
    """`text` as Markdown that shows just that, in a line or in a cell of a table."""
    return _LEADING.sub(r"\1\\\2", _INLINE.sub(r"\\\g<0>", visible(text)))
