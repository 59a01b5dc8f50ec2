"""Text that reads like English from the words of a treebank."""

import re
from collections.abc import Iterable, Sequence

_ESCAPES = {
    "-LRB-": "(",
    "-RRB-": ")",
    "-LSB-": "[",
    "-RSB-": "]",
    "-LCB-": "{",
    "-RCB-": "}",
    "``": '"',
    "''": '"',
    "`": "'",
    "/.": ".",
    "/?": "?",
    "/-": "-",
    "/,": ",",
    "\\/": "/",
    "\\*": "*",
    "-AMP-": "&",
}
_CLOSERS = set(",.;:!?%)]}’”»°")
_OPENERS = set("([{“‘«")
_DASHES = {"-", "–", "—", "−"}
_NOT = re.compile(r"n['’`]?t", re.IGNORECASE)
_CLITIC = re.compile(r"['’`](s|m|d|re|ve|ll)", re.IGNORECASE)
# Written without an apostrophe, these are words of their own unless tagged as clitics.
_BARE_CLITICS = {
    "s": "POS VBZ PRP",
    "m": "VBP",
    "re": "VBP",
    "ve": "VBP VB",
    "ll": "MD",
    "d": "MD VBD",
}
_ENDS_IN_PUNCTUATION = re.compile(r"[.!?]{2,}|…|[,;:]{2,}")
_CURRENCY = re.compile(r".*[$£€¥]|#")
_NUMBER = re.compile(r"[.,]?\d.*")
_ABBREVIATION = re.compile(r".*\w\.")
_SPLIT_WORDS = {
    ("can", "not"),
    ("gon", "na"),
    ("wan", "na"),
    ("got", "ta"),
    ("gim", "me"),
    ("lem", "me"),
}
_SENTENCE_ENDS = tuple(".!?…:;,-–—]")
_AFTER_END = "\"'”’)}» "


def join_sentences(texts: Iterable[str]) -> str:
    """Texts of sentences one after the other, without the empty ones.

    A space stands between, or a new line after what does not end as a sentence or a reference in
    brackets does, such as a heading.
    """
    given = [text for text in texts if text]
    ended = (text.rstrip(_AFTER_END)[-1:] in _SENTENCE_ENDS for text in given)
    return "".join(
        f"{text}{' ' if end else chr(10)}" for text, end in zip(given, ended, strict=True)
    ).rstrip(" \n")


def detokenise(words: Sequence[str], pos: Sequence[str] | None = None) -> str:
    """The text of one sentence from its words, as a person would have typed it.

    Brackets written as ``-LRB-`` and quotes written as two backticks come back, contractions,
    punctuation, hyphens, currencies and per cents close up, and an abbreviation swallows the full
    stop at the end.

    Args:
        words: The words of a sentence, or of a part of one.
        pos: Their parts of speech (Penn Treebank), which tell opening from closing quotes, and
            hyphens from dashes. Without them quotes take turns, and a lone ``-`` is a dash.

    """
    tags = [""] * len(words) if pos is None else pos
    pieces: list[str] = []
    quotes_open: dict[str, bool] = {}
    tight = True  # Whether the next word follows without a space.
    for n, (raw, tag) in enumerate(zip(words, tags, strict=True)):
        word = _ESCAPES.get(raw, raw)
        before = words[n - 1] if n else ""
        after = words[n + 1] if n + 1 < len(words) else ""
        if word == "." and _ABBREVIATION.fullmatch(before) and not _is_word(after):
            continue
        left, right = _quote(raw, word, tag, quotes_open) or _closes_up(
            word, tag, before, after, tags[n + 1] if after else ""
        )
        if pieces and not (tight or left):
            pieces.append(" ")
        pieces.append(word)
        tight = right
    return "".join(pieces)


def _is_word(text: str) -> bool:
    return any(c.isalnum() for c in text)


def _quote(raw: str, word: str, tag: str, open: dict[str, bool]) -> tuple[bool, bool] | None:
    """(no space before, no space after) of a quotation mark; nothing for other words."""
    if tag in ("``", "''") and not _is_word(word):
        return (tag == "''", tag == "``")
    if raw in ("``", "`", "“", "‘"):
        return (False, True)
    if raw in ("''", "”"):
        return (True, False)
    if word == '"' or (word == "'" and tag == ""):
        closes = open.get(word, False)
        open[word] = not closes
        return (closes, not closes)
    return None


def _closes_up(word: str, tag: str, before: str, after: str, next_tag: str) -> tuple[bool, bool]:
    """(no space before, no space after) of any other word."""
    lower = word.lower()
    # Emoticons and rules of dashes.
    if tag in ("NFP", "UH") and not word.isalnum() and word not in _CLOSERS:
        return (bool(_ENDS_IN_PUNCTUATION.fullmatch(word)), False)
    if tag in ("-LRB-", "-RRB-") and not word.isalnum():
        return (tag == "-RRB-", tag == "-LRB-")
    if word in _OPENERS:
        return (False, True)
    if word in _CLOSERS or tag == "POS" or _ENDS_IN_PUNCTUATION.fullmatch(word):
        return (True, False)
    if _NOT.fullmatch(word) or _CLITIC.fullmatch(word):
        return (before[-1:].isalnum(), False)
    if tag and tag in _BARE_CLITICS.get(lower, "").split() and before.isalpha():
        return (True, False)
    if (before.lower(), lower) in _SPLIT_WORDS and after.lower() != "only":
        return (True, False)
    if word == "/":
        return (True, True)
    if tag == "HYPH" and word in _DASHES:
        # "pre- and post-war": what follows belongs to the other half.
        return (True, next_tag not in ("CC", "TO"))
    if word in _DASHES and tag == "SYM" and _NUMBER.fullmatch(after):
        return (before[-1:].isdigit() or before in ("]", "-RSB-"), True)
    if _CURRENCY.fullmatch(word) and _NUMBER.fullmatch(after):
        return (False, True)
    return (False, False)
