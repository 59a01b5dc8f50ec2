"""Documents from records of the hub's data set `conll2012_ontonotesv5`."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeGuard, TypeVar

from jaxtask.corpora.document import (
    Document,
    Layer,
    Mention,
    Predicate,
    Sentence,
    Span,
    chains_of,
    genre_of,
)
from jaxtask.corpora.files import json_lines, parquet_rows
from jaxtask.corpora.tree import Tree, read_bracketed
from jaxtask.errors import CorpusError, shown

Version = Literal["english_v4", "english_v12"]

_V12 = tuple(
    """XX `` $ '' * , -LRB- -RRB- . : ADD AFX CC CD DT EX FW HYPH IN JJ JJR JJS LS MD NFP NN NNP
    NNPS NNS PDT POS PRP PRP$ RB RBR RBS RP SYM TO UH VB VBD VBG VBN VBP VBZ VERB WDT WP WP$
    WRB""".split()  # noqa: SIM905
)
POS_TAGS: dict[str, tuple[str, ...]] = {
    "english_v4": tuple(tag for tag in _V12 if tag not in ("*", "VERB")),
    "english_v12": _V12,
}
"""Parts of speech by class index; version 12 has two more, so its indices are shifted."""

ENTITY_LABELS = tuple(
    """PERSON NORP FAC ORG GPE LOC PRODUCT DATE TIME PERCENT MONEY QUANTITY ORDINAL CARDINAL EVENT
    WORK_OF_ART LAW LANGUAGE""".split()  # noqa: SIM905
)
ENTITY_TAGS = ("O", *(f"{mark}-{label}" for label in ENTITY_LABELS for mark in "BI"))
"""Named entity tags by class index."""

T = TypeVar("T")


def read_hub(path: str | Path, version: Version = "english_v12") -> Iterator[Document]:
    """The documents of one file of records, JSON lines (``.jsonl``) or Parquet, one part at a time.

    Where `parse_tree`, `named_entities`, `srl_frames` (with the columns of lemmas, framesets and
    senses) or `coref_spans` are missing or say what cannot be, the document is read without that
    layer, and `Document.broken` says why. A mention that is listed twice counts once.

    Args:
        path: The file. Parquet needs pyarrow (``pip install 'jaxtask[parquet]'``).
        version: Which class indices `pos_tags` holds. Checked against the parse trees, which name
            the parts of speech.

    Raises:
        CorpusError: Ids, words or parts of speech of a record do not fit, or the latter not those
            in the parse tree; the message names the file, the record (counted from 1) and the key.

    """
    if version not in POS_TAGS:
        raise CorpusError(f"unknown version {shown(version, 40)} (known: {', '.join(POS_TAGS)})")
    for number, record in _records(Path(path)):
        where = f"{path}, record {number}"
        try:
            yield from _documents(record, version, where)
        except CorpusError as error:
            raise CorpusError(f"{where}: {error}") from error


def _records(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if path.suffix == ".parquet":
        yield from parquet_rows(path)
        return
    yield from json_lines(path, CorpusError, "record")


def _documents(record: Mapping[str, Any], version: Version, where: str) -> Iterator[Document]:
    """One document a part: clusters of two parts are different ones."""
    id = record.get("document_id")
    if not isinstance(id, str) or not id:
        raise CorpusError(_unlike(record, "document_id", "text"))
    parts: dict[int, list[Mapping[str, Any]]] = {}
    for sentence in _list(record, "sentences"):
        if not isinstance(sentence, Mapping):
            raise CorpusError(f"sentences holds {shown(sentence, 40)}, expected objects")
        part = sentence.get("part_id")
        if isinstance(part, str) and re.fullmatch("[0-9]{1,9}", part):
            part = int(part)
        if not _is_whole(part) or not 0 <= part < 10**9:
            raise CorpusError(_unlike(sentence, "part_id", "a number of up to nine digits"))
        parts.setdefault(part, []).append(sentence)
    for part, records in parts.items():
        faults = _Faults(where)
        sentences: list[Sentence] = []
        mentions: list[tuple[object, Mention]] = []
        for n, own in enumerate(records):
            sentences.append(_sentence(own, n, version, faults))
            read = partial(_mentions, own, n, len(sentences[n].words))
            mentions += faults.layer("chains", n, read, [])
        yield Document(
            id=id,
            part=part,
            genre=genre_of(id),
            sentences=tuple(sentences),
            chains=chains_of(mentions),
            broken=faults.broken,
        )


class _Faults:
    """What is wrong with the layers of one document."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.broken: dict[Layer, str] = {}

    def layer(self, name: Layer, sentence: int, read: Callable[[], T], nothing: T) -> T:
        """What a layer has in a sentence; nothing, and a note, where it is broken."""
        try:
            return read()
        except CorpusError as fault:
            self.broken.setdefault(name, f"{self.where}, sentence {sentence + 1}: {fault}")
            return nothing


def _sentence(
    record: Mapping[str, Any], number: int, version: Version, faults: _Faults
) -> Sentence:
    words = _list(record, "words")
    for word in words:
        if not isinstance(word, str) or not word:
            raise CorpusError(f"words holds {shown(word, 40)}, expected texts")
    pos = [_name(POS_TAGS[version], x, "pos_tags") for x in _list(record, "pos_tags")]
    if len(pos) != len(words):
        raise CorpusError(f"{len(words)} words but {len(pos)} pos_tags")
    found = faults.layer("parse", number, lambda: _tree(record, words), None)
    if found:
        _check_tags(found[1], pos, version)
    size = len(words)
    nothing: tuple[str | None, ...] = ()
    lemmas, framesets, senses = (
        faults.layer("predicates", number, partial(_optional, record, key, size), nothing)
        for key in ("predicate_lemmas", "predicate_framenet_ids", "word_senses")
    )
    speaker = record.get("speaker")
    if speaker is not None and not isinstance(speaker, str):
        raise CorpusError(_unlike(record, "speaker", "text"))
    return Sentence(
        words=tuple(words),
        pos=tuple(pos),
        tree=found[0] if found else None,
        lemmas=lemmas,
        framesets=framesets,
        senses=senses,
        speaker=None if speaker in (None, "", "-") else speaker,
        entities=faults.layer("entities", number, lambda: _entities(record, size), ()),
        predicates=faults.layer("predicates", number, lambda: _predicates(record, size), ()),
    )


def _unlike(record: Mapping[str, Any], key: str, expected: str) -> str:
    """What is wrong with the value of a key."""
    if key not in record:
        return f"the key {key!r} is missing"
    return f"{key} is {shown(record[key], 40)}, expected {expected}"


def _list(record: Mapping[str, Any], key: str) -> list[Any]:
    value = record.get(key)
    if not isinstance(value, list):
        raise CorpusError(_unlike(record, key, "a list"))
    return value


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _name(names: Sequence[str], index: object, key: str) -> str:
    """A class label, given by index or by name."""
    if isinstance(index, str) and index in names:
        return index
    if not _is_whole(index) or not 0 <= index < len(names):
        raise CorpusError(f"{key} holds {shown(index, 40)}, expected an index below {len(names)}")
    return names[index]


def _tree(record: Mapping[str, Any], words: Sequence[str]) -> tuple[Tree, list[str]] | None:
    """The parse tree with its parts of speech, if there is one."""
    text = record.get("parse_tree", 0)
    if not isinstance(text, str | None):
        raise CorpusError(_unlike(record, "parse_tree", "text or null"))
    return read_bracketed(text, words) if text else None


def _check_tags(tags: Sequence[str], pos: Sequence[str], version: Version) -> None:
    for tag, name in zip(tags, pos, strict=True):
        if tag != name:
            (other,) = set(POS_TAGS) - {version}
            raise CorpusError(
                f"pos_tags says {name!r} where parse_tree says {shown(tag, 40)}; "
                f"is this {other} rather than {version}?"
            )


def _optional(record: Mapping[str, Any], key: str, size: int) -> tuple[str | None, ...]:
    """Texts; numbers as CoNLL writes them, nothing for null, NaN and a hyphen."""
    values = _list(record, key)
    if len(values) != size:
        raise CorpusError(f"{size} words but {len(values)} {key}")
    found: list[str | None] = []
    for value in values:
        if isinstance(value, float) or _is_whole(value):
            value = f"{value:g}"
        if not isinstance(value, str | None):
            raise CorpusError(f"{key} holds {shown(value, 40)}, expected texts, numbers or null")
        found.append(None if value in (None, "", "-", "nan") else value)
    return tuple(found)


def _entities(record: Mapping[str, Any], size: int) -> tuple[Span, ...]:
    key = "named_entities"
    return _spans([_name(ENTITY_TAGS, x, key) for x in _list(record, key)], size, key)


def _spans(tags: Sequence[object], size: int, key: str) -> tuple[Span, ...]:
    """Spans of BIO tags."""
    if len(tags) != size:
        raise CorpusError(f"{size} words but {len(tags)} {key}")
    spans: list[Span] = []
    for at, tag in enumerate(tags):
        mark, _, label = tag.partition("-") if isinstance(tag, str) else ("", "", "")
        if mark == "B" and label:
            spans.append(Span(at, at + 1, label))
        elif mark == "I" and label:
            if not spans or spans[-1].end != at or spans[-1].label != label:
                raise CorpusError(f"{key}: the tag {shown(tag, 40)} continues nothing")
            spans[-1] = Span(spans[-1].start, at + 1, label)
        elif tag != "O":
            raise CorpusError(f"{key}: found the tag {shown(tag, 40)}, expected O, B-… or I-…")
    return tuple(spans)


def _predicates(record: Mapping[str, Any], size: int) -> tuple[Predicate, ...]:
    predicates = []
    for frame in _list(record, "srl_frames"):
        if not isinstance(frame, Mapping):
            raise CorpusError(f"srl_frames holds {shown(frame, 40)}, expected objects")
        spans = _spans(_list(frame, "frames"), size, "srl_frames")
        own = [s.start for s in spans if s.label == "V"]
        if len(own) != 1:
            raise CorpusError(f"srl_frames has a frame with {len(own)} spans V, expected one")
        predicates.append(Predicate(own[0], spans))
    return tuple(predicates)


def _mentions(record: Mapping[str, Any], sentence: int, size: int) -> list[tuple[object, Mention]]:
    """(cluster, mention) of every mention in a sentence."""
    mentions: list[tuple[object, Mention]] = []
    for item in _list(record, "coref_spans"):
        if not (isinstance(item, list) and len(item) == 3 and all(map(_is_whole, item))):
            raise CorpusError(
                f"coref_spans holds {shown(item, 80)}, expected [cluster, first word, last word]"
            )
        cluster, first, last = item
        if not 0 <= first <= last < size:
            raise CorpusError(
                f"coref_spans holds {shown(item, 80)}, which lies outside its sentence of {size} "
                "words"
            )
        mentions.append((cluster, Mention(sentence, first, last + 1)))
    return mentions
