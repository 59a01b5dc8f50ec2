"""Texts of parts of sentences, shared by the tasks."""

from collections.abc import Sequence

from jaxtask.corpora.detokenise import detokenise
from jaxtask.corpora.document import Sentence

_FUNCTION_WORDS = frozenset(
    ("CC", "CD", "DT", "EX", "IN", "PDT", "PRP", "PRP$", "RB", "TO", "WDT", "WP", "WRB")
)


def words_at(sentence: Sentence, positions: Sequence[int]) -> str:
    """The text of some words of a sentence, in the order given.

    A function word that began the sentence loses its capital where it moves inside.
    """
    words = [sentence.words[p] for p in positions]
    for n, p in enumerate(positions):
        if n and p == 0:
            words[n] = uncapitalised(words[n], sentence.pos[p])
    return detokenise(words, [sentence.pos[p] for p in positions])


def capitalised(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def uncapitalised(word: str, pos: str) -> str:
    """A word that began a sentence, as it stands inside one, as far as its tag tells."""
    common = pos in _FUNCTION_WORDS or pos.startswith("VB")
    return word.lower() if word == "A" or (common and word[1:].islower()) else word


def as_sentence(text: str) -> str:
    """The text with a capital and a full stop, without punctuation at its ends."""
    text = text.strip(" ,;:.-–—")
    return f"{capitalised(text)}." if text else ""
