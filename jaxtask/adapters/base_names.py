"""Whether two adapters name the same base model.

One model goes by several names: ``gpt2`` and ``openai-community/gpt2``, a Hub id and the folder it
was downloaded to. The rule, case-insensitive:

- an empty name is unknown and matches everything (noted);
- two Hub ids ``org/name`` match only when both parts do: ``a/checkpoint`` and ``b/checkpoint`` are
  different models;
- otherwise (a bare name or a path is involved) the last parts of the two are compared, and a match
  of unequal names is noted. A folder of the Hugging Face cache counts as the Hub id it belongs to.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_CACHE_FOLDER = re.compile(r"models--([\w.-]+?)--([\w.-]+)")


def _canonical(base: str) -> str:
    parts = [part for part in base.replace("\\", "/").split("/") if part]
    for part in parts:
        found = _CACHE_FOLDER.fullmatch(part)
        if found:
            return f"{found[1]}/{found[2]}".lower()
    if base.startswith(("/", "./", "../", "~", "\\")) or not _HUB_ID.fullmatch("/".join(parts)):
        return parts[-1].lower() if parts else ""
    return "/".join(parts).lower()


def same_base(first: str, second: str) -> bool:
    """Whether two names may mean one base model, by the rule of this module."""
    a, b = _canonical(first), _canonical(second)
    if "/" in a and "/" in b:
        return a == b
    return a.rpartition("/")[2] == b.rpartition("/")[2]


def base_conflicts(bases: Sequence[tuple[str, str | None]]) -> tuple[str | None, list[str]]:
    """The first conflict among ``(adapter, base)`` pairs, as a phrase or None, and notes."""
    notes = []
    unknown = [name for name, base in bases if not base]
    if unknown and len(unknown) < len(bases):
        notes.append(f"base model unknown, taken as the others': {', '.join(unknown)}.")
    distinct: dict[str, str] = {}
    for name, base in bases:
        if base and base not in distinct:
            for other, other_name in distinct.items():
                if not same_base(other, base):
                    phrase = (
                        f"adapter '{other_name}' was trained on '{other}' and adapter '{name}' on "
                        f"'{base}'"
                    )
                    return phrase, notes
                notes.append(f"base models '{other}' and '{base}' are taken as one by their name.")
            distinct[base] = name
    return None, notes
