"""A document with its annotation, whatever it was read from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from jaxtask.corpora.detokenise import detokenise, join_sentences
from jaxtask.corpora.tree import Tree
from jaxtask.errors import CorpusError, shown

Layer = Literal["parse", "entities", "predicates", "chains", "genre", "summary"]
"""What a document may carry besides its words."""

LAYERS: dict[Layer, str] = {
    "parse": "parse tree of every sentence",
    "entities": "named entities",
    "predicates": "predicates with arguments",
    "chains": "coreference chains",
    "genre": "genre",
    "summary": "summary",
}

# Where the layers stand that readers may find broken, and what stands there for nothing.
_FIELDS: dict[Layer, tuple[str, Any]] = {
    "parse": ("tree", None),
    "entities": ("entities", ()),
    "predicates": ("predicates", ()),
}

_OWN_GENRES = ("bc", "bn", "mz", "nw", "pt", "tc", "wb")


@dataclass(frozen=True)
class Span:
    """Words `start` to `end` of a sentence, `end` excluded, with a label."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, order=True)
class Mention:
    """Words `start` to `end` of a sentence, `end` excluded; `sentence` counts in the document."""

    sentence: int
    start: int
    end: int


@dataclass(frozen=True)
class Predicate:
    """The word that a frame is about, and the frame's labelled spans (its own is ``V``)."""

    position: int
    arguments: tuple[Span, ...]


@dataclass(frozen=True)
class Sentence:
    """Words and what is annotated on them; `pos` to `senses` have one entry per word.

    Raises:
        CorpusError: Lengths differ, a span lies outside, or the tree does not yield the words.

    """

    words: tuple[str, ...]
    pos: tuple[str, ...]
    tree: Tree | None = None
    lemmas: tuple[str | None, ...] = ()
    framesets: tuple[str | None, ...] = ()
    senses: tuple[str | None, ...] = ()
    speaker: str | None = None
    entities: tuple[Span, ...] = ()
    predicates: tuple[Predicate, ...] = ()

    def __post_init__(self) -> None:
        size = len(self.words)
        if not size:
            raise CorpusError("a sentence has no words")
        for name in ("lemmas", "framesets", "senses"):
            if not getattr(self, name):
                object.__setattr__(self, name, (None,) * size)
        for name in ("pos", "lemmas", "framesets", "senses"):
            if (found := len(getattr(self, name))) != size:
                raise CorpusError(f"a sentence of {size} words has {found} {name}")
        spans = (*self.entities, *(s for p in self.predicates for s in p.arguments))
        for span in spans:
            if not 0 <= span.start < span.end <= size:
                raise CorpusError(f"{shown(span)} lies outside its sentence of {size} words")
        for predicate in self.predicates:
            if not any(
                s.label == "V" and s.start == predicate.position for s in predicate.arguments
            ):
                raise CorpusError(f"the predicate at word {predicate.position} has no span V there")
        if self.tree is not None and self.tree.positions() != list(range(size)):
            raise CorpusError(f"a parse tree does not yield the {size} words of its sentence")

    @cached_property
    def text(self) -> str:
        """The sentence as a person would have typed it."""
        return detokenise(self.words, self.pos)


@dataclass(frozen=True)
class Document:
    """Sentences and coreference chains of one part of a document.

    Chains are in order of their first mention, mentions in order of the text; a mention that a
    chain lists twice counts once.

    Attributes:
        summary: What `sum` asks for; given beside the corpus.
        broken: Layers that could not be read, and why, with file and line of the first fault. Such
            a layer is absent from the whole document: It would be wrong in part, and nobody could
            tell where.

    Raises:
        CorpusError: A mention lies outside the document.

    """

    id: str
    part: int
    genre: str | None
    sentences: tuple[Sentence, ...]
    chains: tuple[tuple[Mention, ...], ...] = ()
    summary: str | None = None
    broken: Mapping[Layer, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for layer in self.broken:
            if layer == "chains":
                object.__setattr__(self, "chains", ())
            elif layer in _FIELDS:
                name, nothing = _FIELDS[layer]
                bare = (
                    replace(s, **{name: nothing}) if getattr(s, name) else s for s in self.sentences
                )
                object.__setattr__(self, "sentences", tuple(bare))
        ordered = tuple(sorted(tuple(sorted(set(chain))) for chain in self.chains if chain))
        object.__setattr__(self, "chains", ordered)
        for chain in self.chains:
            for m in chain:
                inside = 0 <= m.sentence < len(self.sentences)
                if not inside or not 0 <= m.start < m.end <= len(self.sentences[m.sentence].words):
                    raise CorpusError(
                        f"{m} lies outside its document of {len(self.sentences)} sentences"
                    )

    @property
    def text(self) -> str:
        """The sentences' texts one after the other."""
        return join_sentences(s.text for s in self.sentences)

    def window(self, start: int, end: int) -> "Document":
        """Sentences `start` to `end`, `end` excluded, with the mentions that lie there."""
        chains = (
            tuple(
                replace(m, sentence=m.sentence - start) for m in chain if start <= m.sentence < end
            )
            for chain in self.chains
        )
        return replace(self, sentences=self.sentences[start:end], chains=tuple(chains))

    def has(self, layer: Layer) -> bool:
        """Whether the document carries this layer; a parse counts where every sentence has one.

        A layer that is `broken` is not carried.
        """
        if layer in self.broken:
            return False
        match layer:
            case "parse":
                return all(s.tree is not None for s in self.sentences)
            case "entities" | "predicates":
                return any(getattr(s, layer) for s in self.sentences)
            case "chains":
                return any(len(chain) > 1 for chain in self.chains)
            case _:
                return bool(getattr(self, layer))


def genre_of(document_id: str) -> str | None:
    """The genre that an id names: ``nw`` in ``nw/wsj/00/wsj_0001``, ``news`` in ``gum/news/…``.

    That is the first part of an id of OntoNotes, else the part after the corpus, else nothing.
    """
    parts = document_id.split("/")
    if parts[0] in _OWN_GENRES:
        return parts[0]
    return parts[1] if len(parts) > 2 else None


def chains_of(mentions: Iterable[tuple[object, Mention]]) -> tuple[tuple[Mention, ...], ...]:
    """Chains from (cluster, mention) pairs."""
    clusters: dict[object, list[Mention]] = {}
    for cluster, mention in mentions:
        clusters.setdefault(cluster, []).append(mention)
    return tuple(map(tuple, clusters.values()))
