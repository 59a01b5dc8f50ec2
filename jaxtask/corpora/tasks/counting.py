"""Tasks that count sentences or words: no linguistic knowledge, so they serve as controls.

A share of n counts is rounded up, so that the least is one. "One in every k" keeps the first of
every k. Words are what spaces separate in the text, so a target is made of the text's own words.
"""

import re
from collections.abc import Callable, Sequence
from math import ceil

from jaxtask.corpora.detokenise import join_sentences
from jaxtask.corpora.document import Document
from jaxtask.corpora.tasks.registry import task

_CHOICES: dict[str, tuple[str, Callable[[Sequence[str]], Sequence[str]]]] = {
    "first10": ("the first 10% of the", lambda items: items[: ceil(len(items) / 10)]),
    "last10": ("the last 10% of the", lambda items: items[-ceil(len(items) / 10) :]),
    "every10": ("one in every 10", lambda items: items[::10]),
    "every2": ("one in every 2", lambda items: items[::2]),
}


def _register(
    name: str,
    instruction: str,
    split: Callable[[Document], list[str]],
    choose: Callable[[Sequence[str]], Sequence[str]],
    join: Callable[[Sequence[str]], str],
) -> None:
    @task(name, summary=instruction.capitalize())
    def count(document: Document) -> tuple[str, str]:
        return instruction, join(choose(split(document)))


for _short, (_phrase, _choose) in _CHOICES.items():
    _register(
        f"{_short}-sent",
        f"keep {_phrase} sentences.",
        lambda document: [s.text for s in document.sentences],
        _choose,
        join_sentences,
    )
for _short, (_phrase, _choose) in _CHOICES.items():
    _register(
        f"{_short}-word",
        f"keep {_phrase} words.",
        lambda document: [w for w in re.split(r"[ \n]+", document.text) if w],
        _choose,
        " ".join,
    )
