"""The task of removing prepositional phrases and adverbial clauses from parse trees."""

import re
from collections.abc import Iterator

from jaxtask.corpora.detokenise import detokenise, join_sentences
from jaxtask.corpora.document import Document, Sentence
from jaxtask.corpora.tasks._text import begun_as
from jaxtask.corpora.tasks.registry import task
from jaxtask.corpora.tree import Tree

_ADVERBIAL_TAGS = {"ADV", "TMP", "PRP", "LOC", "MNR", "CND", "PNC"}
_COMPLEMENT_TAGS = {"NOM", "SBJ", "OBJ", "PRD"}
_SUBORDINATORS = frozenset(
    """after albeit although as because before cause cos coz 'cause except if lest like once
    provided since so than though til till 'til unless until when whenever where whereas wherever
    while whilst without""".split()  # noqa: SIM905
)
# After these verbs, `if`, `when` and `where` begin what is asked or known.
_ASKING = frozenset(
    """ask asked asks asking check checked consider considered decide decided determine determined
    discover discovered discuss discussed explain explained figure figured find finding found forget
    forgot guess know knowing known knows knew learn learned mind remember remembered say said see
    seeing seen saw show showed shown tell telling told test tested understand understood wonder
    wondered wondering wonders""".split()  # noqa: SIM905
)
_ASKED = {"if", "when", "where", "whenever", "wherever"}
_CLAUSES = {"S", "VP", "SINV", "SQ", "SBARQ", "FRAG", "TOP", "PRN", "X", "UCP", "ADVP", "ADJP", ""}
_SEPARATORS = {",", ":"}
_BEGINNINGS = {"", "``", "-LRB-", "LS", "."}
_ENDINGS = {"", ".", "''", "-RRB-"}
_CLOSING = {"-LRB-": "-RRB-", "``": "''"}
_CONJUNCTIONS = {"and", "or", "but", "nor"}


@task("syntax", needs="parse")
def syntax(document: Document) -> tuple[str, str]:
    """The sentences without their PP and adverbial SBAR constituents; empty ones are left out.

    Without function tags, an SBAR is adverbial if its first word is an adverbial subordinator
    (because, when, if, …) and it is neither in a noun phrase nor what a verb of asking or knowing
    asks. An ADVP around one goes with it. Commas, brackets, quotes and conjunctions that are left
    with nothing to separate go too.
    """
    return "remove PP and AD-SBAR syntagms.", join_sentences(map(reduced, document.sentences))


def reduced(sentence: Sentence) -> str:
    """The text of one sentence without these constituents; empty if no word is left."""
    assert sentence.tree is not None
    removed = {p for node in _removable(sentence.tree, sentence) for p in node.positions()}
    if not removed:
        return sentence.text
    kept = _tidy(sentence, removed)
    if not any(c.isalnum() for p in kept for c in sentence.words[p]):
        return ""
    text = detokenise([sentence.words[p] for p in kept], [sentence.pos[p] for p in kept])
    return begun_as(sentence, text)


def _removable(tree: Tree, sentence: Sentence) -> Iterator[Tree]:
    """The outermost constituents to be removed."""
    for child in tree.children:
        if isinstance(child, int):
            continue
        if (
            _kind(child) == "PP"
            or _is_adverbial(child, tree, sentence)
            or (_kind(child) == "ADVP" and _holds_adverbial(child, sentence))
        ):
            yield child
        else:
            yield from _removable(child, sentence)


def _holds_adverbial(tree: Tree, sentence: Sentence) -> bool:
    """Whether a child is an adverbial clause, as in "as soon as they came"."""
    return any(isinstance(c, Tree) and _is_adverbial(c, tree, sentence) for c in tree.children)


def _kind(tree: Tree) -> str:
    """The category of a label without its function tags."""
    return re.split(r"[-=|]", tree.label)[0] or tree.label


def _is_adverbial(tree: Tree, parent: Tree, sentence: Sentence) -> bool:
    if _kind(tree) != "SBAR":
        return False
    tags = set(tree.label.split("-")[1:])
    if tags & (_ADVERBIAL_TAGS | _COMPLEMENT_TAGS):
        return bool(tags & _ADVERBIAL_TAGS)
    if _kind(parent) not in _CLAUSES:
        return False
    opening = _opening(tree, sentence)
    if opening not in _SUBORDINATORS:
        return False
    start = tree.positions()[0]
    verb = sentence.words[start - 1].lower() if start and _kind(parent) == "VP" else ""
    return not (opening in _ASKED and verb in _ASKING)


def _opening(tree: Tree, sentence: Sentence) -> str:
    """The subordinator of a clause: its first word, after adverbs such as `even` and `just`."""
    for p in tree.positions():
        word, tag = sentence.words[p].lower(), sentence.pos[p]
        if tag in ("IN", "WRB", "WDT", "WP") or word in _SUBORDINATORS:
            return word
        if not tag.startswith("RB"):
            return ""
    return ""


def _tidy(sentence: Sentence, removed: set[int]) -> list[int]:
    """Positions that stay, without punctuation and conjunctions that separate nothing any more."""
    pairs = _pairs(sentence)
    removed = set(removed)
    while True:
        kept = [p for p in range(len(sentence.words)) if p not in removed]
        useless = {*_idle(sentence, kept), *_half_or_empty(pairs, removed)}
        if not useless:
            return kept
        removed |= useless


def _idle(sentence: Sentence, kept: list[int]) -> Iterator[int]:
    """Separators and conjunctions that have nothing before them or nothing after.

    Only what stands next to a gap is looked at, so that the author's own oddities stay.
    """
    pos = ["", *(sentence.pos[p] for p in kept), ""]
    at = [-1, *kept, len(sentence.words)]
    for n, p in enumerate(kept, 1):
        before, own, after = pos[n - 1 : n + 2]
        gap_before, gap_after = at[n - 1] + 1 < p, p + 1 < at[n + 1]
        separator = own in _SEPARATORS
        if separator or sentence.words[p].lower() in _CONJUNCTIONS:
            idle = before in _BEGINNINGS or (separator and before in _SEPARATORS)
            if (gap_before and idle) or (gap_after and after in _ENDINGS | _SEPARATORS):
                yield p


def _pairs(sentence: Sentence) -> list[tuple[int, int]]:
    """Brackets and quotes that belong together."""
    pairs, open = [], list[int]()
    for p, tag in enumerate(sentence.pos):
        if tag in _CLOSING:
            open.append(p)
        elif open and tag == _CLOSING[sentence.pos[open[-1]]]:
            pairs.append((open.pop(), p))
    return pairs


def _half_or_empty(pairs: list[tuple[int, int]], removed: set[int]) -> Iterator[int]:
    """What is left of pairs of which one half is gone, or all that was between."""
    for first, last in pairs:
        left = {first, last} - removed
        between = range(first + 1, last)
        if len(left) == 1 or (between and removed.issuperset(between)):
            yield from left
