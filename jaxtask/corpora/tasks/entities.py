"""Tasks about named entities."""

from collections.abc import Iterator

from jaxtask.corpora.detokenise import join_sentences
from jaxtask.corpora.document import Document, Sentence, Span
from jaxtask.corpora.tasks._text import words_at
from jaxtask.corpora.tasks.registry import task

CATEGORIES = ("EVENT", "FAC", "GPE", "LOC", "ORG", "PERSON", "PRODUCT", "WORK_OF_ART")
"""The categories that `ner` looks for."""


@task("ner", needs="entities")
def ner(document: Document) -> tuple[str, str]:
    """Sentences with a named entity whose text no earlier sentence named.

    Categories are those of `CATEGORIES`. Two names are the same if their letters are, whatever
    their case, without an article before and a possessive after; the category does not matter.
    """
    kept = [s.text for s, new in _new_entities(document) if new]
    return (
        "keep only sentences containing at least one new Named Entity from the following "
        f"categories: {', '.join(CATEGORIES)}.",
        join_sentences(kept),
    )


@task("ner-list", needs="entities")
def ner_list(document: Document) -> tuple[str, str]:
    """The entities that `ner` looks for, once each, with their categories."""
    found = [
        f"{_name(s, entity)} ({entity.label})"
        for s, new in _new_entities(document)
        for entity in new
    ]
    return (
        "list each Named Entity from the following categories once, with its category: "
        f"{', '.join(CATEGORIES)}.",
        "; ".join(found),
    )


def _new_entities(document: Document) -> Iterator[tuple[Sentence, list[Span]]]:
    """Every sentence with the entities that were not named before."""
    seen: set[str] = set()
    for sentence in document.sentences:
        new = []
        for entity in sentence.entities:
            key = _name(sentence, entity).casefold()
            if entity.label in CATEGORIES and key not in seen:
                seen.add(key)
                new.append(entity)
        yield sentence, new


def _name(sentence: Sentence, entity: Span) -> str:
    """The entity's text without quotes around it, an article before and a possessive after."""
    at = list(range(entity.start, entity.end))
    while len(at) > 1 and not _is_word(sentence.words[at[0]]):
        del at[0]
    while len(at) > 1 and (sentence.pos[at[-1]] == "POS" or not _is_word(sentence.words[at[-1]])):
        del at[-1]
    if len(at) > 1 and sentence.words[at[0]].lower() in ("the", "a", "an"):
        del at[0]
    return words_at(sentence, at)


def _is_word(word: str) -> bool:
    return any(c.isalnum() for c in word)
