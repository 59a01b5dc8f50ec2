"""Documents as CoNLL-2012 columns."""

import gzip
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from jaxtask.corpora.document import Document, Mention, Sentence, Span
from jaxtask.corpora.files import new_file
from jaxtask.corpora.tree import parse_bits
from jaxtask.errors import CorpusError


def write_conll(documents: Iterable[Document], path: str | Path) -> None:
    """Write documents in CoNLL-2012 columns, gzipped if the name ends in ``.gz``.

    What `read_conll` reads back is equal, except that columns have no room for summaries. The file
    is complete or not there.

    Raises:
        CorpusError: The file cannot be written, or spans of one column cross, which brackets cannot
            say.

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
    """The lines of one document; see `write_conll` for what is refused."""
    mentions: list[list[tuple[int, Mention]]] = [[] for _ in document.sentences]
    for cluster, chain in enumerate(document.chains):
        for mention in chain:
            mentions[mention.sentence].append((cluster, mention))
    lines = [f"#begin document ({document.id}); part {document.part:03d}"]
    for sentence, own in zip(document.sentences, mentions, strict=True):
        for row in _rows(sentence, own):
            lines.append("   ".join((document.id, str(document.part), *row)))
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
