"""Documents from records of the hub's data set `conll2012_ontonotesv5`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from jaxtask.corpora.document import (
    Document,
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


def read_hub(path: str | Path, version: Version = "english_v12") -> Iterator[Document]:
    """The documents of one file of records, JSON lines (``.jsonl``) or Parquet, one part at a time.

    Args:
        path: The file. Parquet needs pyarrow (``pip install 'jaxtask[parquet]'``).
        version: Which class indices `pos_tags` holds. Checked against the parse trees, which name
            the parts of speech.

    Raises:
        CorpusError: A record does not fit; the message names the file, the record (counted from 1)
            and the key.

    """
    if version not in POS_TAGS:
        raise CorpusError(f"unknown version {version!r} (known: {', '.join(POS_TAGS)})")
    for number, record in _records(Path(path)):
        where = f"{path}, record {number}"
        try:
            yield from _documents(record, version)
        except KeyError as error:
            raise CorpusError(f"{where}: the key {error} is missing") from error
        except CorpusError as error:
            raise CorpusError(f"{where}: {error}") from error
        except (TypeError, ValueError, OverflowError) as error:
            said = " ".join(str(error).split())
            raise CorpusError(f"{where}: {said:.300}") from error


def _records(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if path.suffix == ".parquet":
        yield from parquet_rows(path)
        return
    yield from json_lines(path, CorpusError, "record")


def _documents(record: Mapping[str, Any], version: Version) -> Iterator[Document]:
    """One document a part: clusters of two parts are different ones."""
    id = _text(record, "document_id")
    parts: dict[int, list[Mapping[str, Any]]] = {}
    for sentence in record["sentences"]:
        parts.setdefault(int(sentence["part_id"]), []).append(sentence)
    for part, sentences in parts.items():
        mentions = [
            (span[0], Mention(n, span[1], span[2] + 1))
            for n, sentence in enumerate(sentences)
            for span in map(_mention, sentence["coref_spans"])
        ]
        yield Document(
            id=id,
            part=part,
            genre=genre_of(id),
            sentences=tuple(_sentence(s, version) for s in sentences),
            chains=chains_of(mentions),
        )


def _sentence(record: Mapping[str, Any], version: Version) -> Sentence:
    words = _texts(record, "words")
    pos = tuple(_name(POS_TAGS[version], x, "pos_tags") for x in record["pos_tags"])
    tags = [_name(ENTITY_TAGS, x, "named_entities") for x in record["named_entities"]]
    for key, values in (("pos_tags", pos), ("named_entities", tags)):
        if len(values) != len(words):
            raise CorpusError(f"{len(words)} words but {len(values)} {key}")
    tree = None
    if record["parse_tree"]:
        tree = _checked(_text(record, "parse_tree"), words, pos, version)
    frames = [_texts(frame, "frames") for frame in record["srl_frames"]]
    speaker = None if record["speaker"] is None else _text(record, "speaker")
    return Sentence(
        words=words,
        pos=pos,
        tree=tree,
        lemmas=_optional(record["predicate_lemmas"]),
        framesets=_optional(record["predicate_framenet_ids"]),
        senses=_optional(record["word_senses"]),
        speaker=None if speaker in (None, "", "-") else speaker,
        entities=_spans(tags),
        predicates=tuple(_predicate(tags) for tags in frames),
    )


def _mention(span: Sequence[int]) -> Sequence[int]:
    """Cluster, first and last word."""
    if len(span) != 3 or not all(isinstance(number, int) for number in span):
        raise CorpusError(f"coref_spans holds {shown(span, 80)}, expected [cluster, first, last]")
    return span


def _text(record: Mapping[str, Any], key: str) -> str:
    if not isinstance(record[key], str):
        raise CorpusError(f"{key}: found {shown(record[key])}, expected a text")
    return record[key]


def _texts(record: Mapping[str, Any], key: str) -> tuple[str, ...]:
    found = record[key]
    if isinstance(found, str) or not all(isinstance(text, str) for text in found):
        raise CorpusError(f"{key}: found {shown(found)}, expected a list of texts")
    return tuple(found)


def _name(names: Sequence[str], index: int | str, key: str) -> str:
    """A class label, given by index or by name."""
    if isinstance(index, str) and index in names:
        return index
    if not isinstance(index, int) or not 0 <= index < len(names):
        raise CorpusError(f"{key} holds {shown(index, 80)}, expected an index below {len(names)}")
    return names[index]


def _checked(text: str, words: Sequence[str], pos: Sequence[str], version: Version) -> Tree:
    tree, tags = read_bracketed(text, words)
    for tag, name in zip(tags, pos, strict=True):
        if tag != name:
            (other,) = set(POS_TAGS) - {version}
            raise CorpusError(
                f"pos_tags says {name!r} where parse_tree says {shown(tag, 80)}; "
                f"is this {other} rather than {version}?"
            )
    return tree


def _optional(values: Sequence[str | float | None]) -> tuple[str | None, ...]:
    """Texts; numbers as CoNLL writes them, nothing for null, NaN and a hyphen."""
    for value in values:
        if not isinstance(value, str | int | float | None):
            raise CorpusError(f"found {shown(value, 80)}, expected a text or null")
    texts = (f"{x:g}" if isinstance(x, int | float) else x for x in values)
    return tuple(None if x in (None, "", "-", "nan") else x for x in texts)


def _spans(tags: Sequence[str]) -> tuple[Span, ...]:
    """Spans of BIO tags."""
    spans: list[Span] = []
    for at, tag in enumerate(tags):
        mark, _, label = tag.partition("-")
        if mark == "B":
            spans.append(Span(at, at + 1, label))
        elif mark == "I":
            if not spans or spans[-1].end != at or spans[-1].label != label:
                raise CorpusError(f"the tag {shown(tag, 80)} continues nothing")
            spans[-1] = Span(spans[-1].start, at + 1, label)
        elif tag != "O":
            raise CorpusError(f"found the tag {shown(tag, 80)}, expected O, B-… or I-…")
    return tuple(spans)


def _predicate(tags: Sequence[str]) -> Predicate:
    spans = _spans(tags)
    own = [s.start for s in spans if s.label == "V"]
    if len(own) != 1:
        raise CorpusError(f"srl_frames has a frame with {len(own)} spans V, expected one")
    return Predicate(own[0], spans)
