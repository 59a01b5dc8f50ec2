"""Annotated phrases, and the sentence that a phrase spells out."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from jaxtask.corpora.document import Predicate, Sentence, Span
from jaxtask.corpora.tree import Tree


@dataclass(frozen=True)
class Phrase:
    """A constituent (with children) or a word (without), and what is annotated on it.

    Attributes:
        roles: (number of the frame in its sentence, role).

    """

    label: str
    children: "tuple[Phrase, ...]" = ()
    word: str = ""
    lemma: str | None = None
    frameset: str | None = None
    entity: str | None = None
    chain: str | None = None
    roles: tuple[tuple[int, str], ...] = ()

    def role(self, frame: int, label: str) -> "Phrase":
        """The phrase, filling a role."""
        return replace(self, roles=(*self.roles, (frame, label)))

    def words(self) -> list[str]:
        """Its words from left to right."""
        return [self.word] if self.word else [w for c in self.children for w in c.words()]


def phrase(label: str, *children: Phrase, entity: str | None = None) -> Phrase:
    """A constituent."""
    return Phrase(label, children, entity=entity)


def word(pos: str, text: str) -> Phrase:
    """A word."""
    return Phrase(pos, word=text)


def names(words: Iterable[str]) -> tuple[Phrase, ...]:
    """Proper nouns."""
    return tuple(word("NNP", w) for w in words)


def spell(top: Phrase, speaker: str | None = None) -> tuple[Sentence, list[tuple[str, int, int]]]:
    """The sentence of a phrase, and (chain, start, end) of its mentions, `end` excluded."""
    leaves: list[Phrase] = []
    entities: list[Span] = []
    mentions: list[tuple[str, int, int]] = []
    frames: dict[int, list[Span]] = {}

    def visit(node: Phrase) -> Tree | int:
        start = len(leaves)
        if node.word:
            leaves.append(node)
        children = tuple(visit(child) for child in node.children)
        end = len(leaves)
        if node.entity:
            entities.append(Span(start, end, node.entity))
        if node.chain:
            mentions.append((node.chain, start, end))
        for frame, label in node.roles:
            frames.setdefault(frame, []).append(Span(start, end, label))
        return start if node.word else Tree(node.label, children)

    tree = visit(top)
    assert isinstance(tree, Tree)
    first = leaves[0].word
    predicates = []
    for spans in frames.values():
        (own,) = (s.start for s in spans if s.label == "V")
        predicates.append(Predicate(own, tuple(sorted(spans, key=lambda s: s.start))))
    sentence = Sentence(
        words=(first[:1].upper() + first[1:], *(leaf.word for leaf in leaves[1:])),
        pos=tuple(leaf.label for leaf in leaves),
        tree=tree,
        lemmas=tuple(leaf.lemma for leaf in leaves),
        framesets=tuple(leaf.frameset for leaf in leaves),
        speaker=speaker,
        entities=tuple(sorted(entities, key=lambda s: s.start)),
        predicates=tuple(sorted(predicates, key=lambda p: p.position)),
    )
    return sentence, mentions
