"""Documents as CoNLL-2012 columns."""

import gzip
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from jaxtask.corpora.document import Document, Mention, Sentence, Span
from jaxtask.corpora.files import new_file
from jaxtask.corpora.tree import parse_bits
from jaxtask.errors import CorpusError, shown

# Tabs and line breaks end columns and rows; spaces at the ends of cells are left out in reading.
_UNSAFE = re.compile(r"[\t\r\n\0]|^ | $")


def write_conll(documents: Iterable[Document], path: str | Path) -> None:
    """Write documents in CoNLL-2012 columns, gzipped if the name ends in ``.gz``.

    What `read_conll` reads back is equal, except that columns have no room for summaries and for
    why a layer is broken. Between columns are spaces, or tabs in sentences in which a cell holds a
    space. The file is complete or not there.

    Raises:
        CorpusError: The file cannot be written, or a document holds what columns cannot say: spans
            of one column that cross, brackets and asterisks in labels, words with line breaks.

    """
    path = Path(path)
    with new_file(path) as file:
        # No name and no time in the header, so that equal documents make equal files.
        packed = gzip.GzipFile("", "wb", fileobj=file, mtime=0) if path.suffix == ".gz" else None
        with io.TextIOWrapper(packed or file, encoding="utf-8", newline="\n") as text:
            for document in documents:
                text.writelines(f"{line}\n" for line in conll_lines(document))
                text.flush()


def conll_lines(document: Document) -> list[str]:
    """The lines of one document.

    Raises:
        CorpusError: As `write_conll`.

    """
    mentions: list[list[tuple[int, Mention]]] = [[] for _ in document.sentences]
    for cluster, chain in enumerate(document.chains):
        for mention in chain:
            mentions[mention.sentence].append((cluster, mention))
    if _UNSAFE.search(document.id) or document.id.startswith("#"):
        raise CorpusError(f"the document's id {shown(document.id, 80)} cannot stand in columns")
    lines = [f"#begin document ({document.id}); part {document.part:03d}"]
    for sentence, own in zip(document.sentences, mentions, strict=True):
        rows = [(document.id, str(document.part), *row) for row in _rows(sentence, own)]
        for cell in (cell for row in rows for cell in row):
            if not cell or _UNSAFE.search(cell):
                raise CorpusError(
                    f"document {shown(document.id, 80)}: {shown(cell, 80)} cannot stand in a column"
                )
        between = "\t" if any(" " in cell for row in rows for cell in row) else "   "
        lines += [between.join(row) for row in rows]
        lines.append("")
    lines.append("#end document")
    return lines


def _rows(sentence: Sentence, mentions: Sequence[tuple[int, Mention]]) -> list[tuple[str, ...]]:
    size = len(sentence.words)
    columns: list[Sequence[str]] = [
        [str(n) for n in range(size)],
        sentence.words,
        sentence.pos,
        parse_bits(sentence.tree, size) if sentence.tree else ["-"] * size,
        [x or "-" for x in sentence.lemmas],
        [x or "-" for x in sentence.framesets],
        [x or "-" for x in sentence.senses],
        [sentence.speaker or "-"] * size,
        _bracket_column(sentence.entities, size),
        *(_bracket_column(p.arguments, size) for p in sentence.predicates),
        _coreference_column(mentions, size),
    ]
    return list(zip(*columns, strict=True))


def _check_nested(spans: Iterable[tuple[int, int]]) -> None:
    open: list[int] = []
    for start, end in sorted(spans, key=lambda s: (s[0], -s[1])):
        while open and open[-1] <= start:
            open.pop()
        if open and open[-1] < end:
            raise CorpusError(
                f"words {start} to {end} cross another span, which ends at {open[-1]}"
            )
        open.append(end)


def _bracket_column(spans: Sequence[Span], size: int) -> list[str]:
    _check_nested((s.start, s.end) for s in spans)
    opened, closed = [""] * size, [""] * size
    for span in sorted(spans, key=lambda s: (s.start, -s.end)):
        if not span.label or set("()*") & set(span.label):
            raise CorpusError(f"the label {shown(span.label, 80)} cannot stand in a column")
        opened[span.start] += f"({span.label}"
        closed[span.end - 1] += ")"
    return [f"{o}*{c}" for o, c in zip(opened, closed, strict=True)]


def _coreference_column(mentions: Sequence[tuple[int, Mention]], size: int) -> list[str]:
    for chain in {cluster for cluster, _ in mentions}:
        _check_nested((m.start, m.end) for cluster, m in mentions if cluster == chain)
    cells: list[list[str]] = [[] for _ in range(size)]
    longest_first = sorted(mentions, key=lambda m: (m[1].start, -m[1].end))
    for cluster, m in longest_first:
        if m.end - m.start > 1:
            cells[m.start].append(f"({cluster}")
    for cluster, m in longest_first:
        if m.end - m.start == 1:
            cells[m.start].append(f"({cluster})")
    for cluster, m in longest_first:
        if m.end - m.start > 1:
            cells[m.end - 1].append(f"{cluster})")
    return ["|".join(cell) or "-" for cell in cells]
