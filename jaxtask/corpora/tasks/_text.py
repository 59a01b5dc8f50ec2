"""Texts of parts of sentences, shared by the tasks."""

import re
from collections.abc import Sequence

from jaxtask.corpora.detokenise import detokenise
from jaxtask.corpora.document import Sentence

# Adjectives are not among them: of nations they keep their capital.
_COMMON = frozenset(
    "CC CD DT EX IN NN NNS PDT PRP PRP$ RB TO VB VBD VBG VBN VBP VBZ WDT WP WRB".split()  # noqa: SIM905
)
_TIMES = ("Last", "Next", "Early", "Late")


def words_at(sentence: Sentence, positions: Sequence[int]) -> str:
    """The text of some words of a sentence, in the order given.

    A common word that began the sentence loses its capital where it moves inside.
    """
    words = [sentence.words[p] for p in positions]
    for n, p in enumerate(positions):
        if n and p == 0:
            words[n] = uncapitalised(words[n], sentence.pos[p])
    return detokenise(words, [sentence.pos[p] for p in positions])


def trimmed(text: str) -> str:
    """The text without separating punctuation at its ends."""
    return text.strip(" ,;:-–—")


def begun_as(sentence: Sentence, text: str) -> str:
    """What became of a sentence, with a capital where the sentence began with one."""
    letter = re.search(r"\w", sentence.text)
    return capitalised(text) if letter and letter[0].isupper() else text


def capitalised(text: str) -> str:
    """The text with its first letter in upper case."""
    return re.sub(r"\w", lambda letter: letter[0].upper(), text, count=1)


def uncapitalised(word: str, pos: str) -> str:
    """A word that began a sentence, as it stands inside one, as far as its tag tells."""
    common = (pos in _COMMON and word[1:].islower()) or word in ("A", *_TIMES)
    return word.lower() if common else word


def as_sentence(text: str) -> str:
    """The text with a capital and a full stop, without punctuation at its ends."""
    text = trimmed(text).rstrip(".")
    return f"{capitalised(text)}." if text else ""
