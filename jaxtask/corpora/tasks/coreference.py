"""Tasks about coreference."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtask.corpora.detokenise import detokenise, join_sentences
from jaxtask.corpora.document import Document, Mention, Sentence
from jaxtask.corpora.tasks._text import begun_as, trimmed, uncapitalised, words_at
from jaxtask.corpora.tasks.registry import task

_RELATIVE = {"WDT", "WP", "WP$", "WRB"}
_ENDS_ANCHOR = _RELATIVE | {",", ":", "-LRB-", "-RRB-", "``", "''"}


@task("coref", needs="chains")
def coref(document: Document) -> tuple[str, str]:
    """Sentences that hold a mention of the longest chains, with the anchor for what refers back.

    The longest chains are those with the most mentions, of those that have an anchor: the first
    mention with a noun, up to a comma, bracket or relative clause in it. Pronouns and definite
    descriptions refer back and are replaced, the outermost where they lie in one another; mentions
    that hold a name or begin with "a" stay, and so do relative pronouns. A possessive stays one.
    """
    replaced: dict[int, list[_Replacement]] = {}
    for chain, anchor in _longest(document):
        for mention in chain:
            sentence = document.sentences[mention.sentence]
            own = replaced.setdefault(mention.sentence, [])
            if mention != chain[anchor.at] and _refers_back(sentence, mention):
                possessive = sentence.pos[mention.end - 1] in ("POS", "PRP$")
                own.append(_Replacement(mention, anchor, possessive))
    kept = (_replace(document.sentences[n], replaced[n]) for n in sorted(replaced))
    return (
        "keep sentences with longest coreference chains and replace coreference with anchor.",
        join_sentences(kept),
    )


@task("coref-list", needs="chains")
def coref_list(document: Document) -> tuple[str, str]:
    """The mentions of the chains that `coref` chooses, one chain a line, with ``=`` between."""
    lines = (
        " = ".join(
            trimmed(words_at(document.sentences[m.sentence], range(m.start, m.end))) for m in chain
        )
        for chain, _ in _longest(document)
    )
    return "list the mentions of the longest coreference chains, one chain a line.", "\n".join(
        lines
    )


@dataclass(frozen=True)
class _Anchor:
    """What stands for the mentions of a chain: words and parts of speech of its mention `at`."""

    at: int
    words: tuple[str, ...]
    pos: tuple[str, ...]

    def tokens(self, possessive: bool) -> list[tuple[str, str]]:
        """(word, part of speech), as a possessive or not."""
        tokens = list(zip(self.words, self.pos, strict=True))
        if possessive:
            plural = self.pos[-1] in ("NNS", "NNPS") and self.words[-1].endswith("s")
            tokens.append(("'" if plural else "'s", "POS"))
        return tokens


@dataclass(frozen=True)
class _Replacement:
    """A mention and what stands for it."""

    mention: Mention
    anchor: _Anchor
    possessive: bool


def _longest(document: Document) -> list[tuple[Sequence[Mention], _Anchor]]:
    """The longest chains with their anchors."""
    anchored = [
        (chain, anchor)
        for chain in document.chains
        if len(chain) > 1 and (anchor := _anchor(document, chain))
    ]
    most = max((len(chain) for chain, _ in anchored), default=0)
    return [(chain, anchor) for chain, anchor in anchored if len(chain) == most]


def _anchor(document: Document, chain: Sequence[Mention]) -> _Anchor | None:
    for at, m in enumerate(chain):
        sentence = document.sentences[m.sentence]
        words = list(sentence.words[m.start : m.end])
        pos = list(sentence.pos[m.start : m.end])
        nouns = [n for n, tag in enumerate(pos) if tag.startswith("NN")]
        if not nouns:
            continue
        ends = (n for n, tag in enumerate(pos) if n > nouns[0] and tag in _ENDS_ANCHOR)
        size = next(ends, len(pos))
        if pos[size - 1] == "POS":
            size -= 1
        if m.start == 0:
            words[0] = uncapitalised(words[0], pos[0])
        return _Anchor(at, tuple(words[:size]), tuple(pos[:size]))
    return None


def _refers_back(sentence: Sentence, mention: Mention) -> bool:
    pos = sentence.pos[mention.start : mention.end]
    if len(pos) == 1 and pos[0] in _RELATIVE:
        return False
    named = any(tag in ("NNP", "NNPS") for tag in pos)
    return not named and sentence.words[mention.start].lower() not in ("a", "an")


def _replace(sentence: Sentence, replacements: Sequence[_Replacement]) -> str:
    """The sentence's text with the outermost mentions replaced."""
    own = list(zip(sentence.words, sentence.pos, strict=True))
    tokens: list[tuple[str, str]] = []
    done = 0
    for r in sorted(replacements, key=lambda r: (r.mention.start, -r.mention.end)):
        if r.mention.start >= done:
            tokens += [*own[done : r.mention.start], *r.anchor.tokens(r.possessive)]
            done = r.mention.end
    tokens += own[done:]
    return begun_as(sentence, detokenise(*zip(*tokens, strict=True)))
