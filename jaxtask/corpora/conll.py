"""Documents from CoNLL-2012 columns."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from jaxtask.corpora.document import (
    Document,
    Mention,
    Predicate,
    Sentence,
    Span,
    chains_of,
    genre_of,
)
from jaxtask.corpora.files import text_lines
from jaxtask.corpora.tree import Node, Tree
from jaxtask.errors import CorpusError

_BEGIN = re.compile(r"#begin document \((.+?)\)(?:; part (\d+))?\s*$")
_CELL = re.compile(r"((?:\([^()*\s]+)*)\*?(\)*)")
_COREFERENCE = re.compile(r"(\()?(\d+)(\))?")

# Columns before the predicates', counted from 0.
_NUMBER, _WORD, _POS, _PARSE, _LEMMA, _FRAMESET, _SENSE, _SPEAKER, _ENTITY, _FIXED = range(2, 12)

# CoNLL-2003's short name for what OntoNotes writes in full.
_FULL_NAMES = {"PER": "PERSON"}


def read_conll(path: str | Path) -> Iterator[Document]:
    """The documents of one file in CoNLL-2012 columns, plain or gzipped, one at a time.

    A sentence without predicates has 12 columns. A hyphen stands for nothing in the columns of
    parse, lemma, frameset, sense, speaker and coreference. Entities named ``PER`` become
    ``PERSON``.

    Raises:
        CorpusError: Something does not fit; the message names file, line and column (counted from
            1).

    """
    lines = text_lines(path)
    for number, line in lines:
        text = line.strip()
        if text.startswith("#begin"):
            found = _BEGIN.match(text)
            if not found:
                raise CorpusError(
                    f"{path}, line {number}: found {text!r:.80}, expected "
                    "'#begin document (ID); part NNN'"
                )
            yield _document(path, number, found[1], int(found[2] or 0), lines)
        elif text and not text.startswith("#"):
            raise CorpusError(f"{path}, line {number}: a row outside a document: {text[:40]!r}")


def _document(
    path: str | Path, begin: int, id: str, part: int, lines: Iterator[tuple[int, str]]
) -> Document:
    sentences: list[Sentence] = []
    mentions: list[tuple[object, Mention]] = []
    rows: list[tuple[int, list[str]]] = []
    for number, line in lines:
        if line.startswith("#begin"):
            raise CorpusError(
                f"{path}, line {number}: document {id!r:.80} was not ended before this"
            )
        ended = line.startswith("#end document")
        if (ended or not line.strip()) and rows:
            block = _Block(path, rows)
            mentions += [(c, Mention(len(sentences), s, e)) for c, s, e in block.mentions()]
            sentences.append(block.sentence())
            rows = []
        if ended:
            return Document(id, part, genre_of(id), tuple(sentences), chains_of(mentions))
        if line.strip() and not line.startswith("#"):
            rows.append((number, line.split()))
    raise CorpusError(f"{path}: the file ends inside document {id!r:.80}, begun in line {begin}")


class _Block:
    """The rows of one sentence."""

    def __init__(self, path: str | Path, rows: list[tuple[int, list[str]]]) -> None:
        self.path = path
        self.lines = [number for number, _ in rows]
        self.rows = [fields for _, fields in rows]
        self.width = len(self.rows[0])
        for at, fields in enumerate(self.rows):
            if len(fields) < _FIXED + 1:
                self.fail(
                    at,
                    len(fields) - 1,
                    f"the row ends here, expected at least {_FIXED + 1} columns",
                )
            if len(fields) != self.width:
                self.fail(
                    at,
                    min(len(fields), self.width) - 1,
                    f"the row has {len(fields)} columns, those above have {self.width}",
                )
            # Otherwise a lost or a doubled row would pass for a sentence.
            if fields[_NUMBER] != str(at):
                self.fail(
                    at, _NUMBER, f"the word's number is {fields[_NUMBER]!r:.80}, expected {at}"
                )

    def fail(self, at: int, column: int, what: str) -> NoReturn:
        """Raise, naming file, line and column of row `at`."""
        raise CorpusError(f"{self.path}, line {self.lines[at]}, column {column + 1}: {what}")

    def column(self, column: int) -> list[str]:
        """One column from top to bottom."""
        return [fields[column] for fields in self.rows]

    def optional(self, column: int) -> tuple[str | None, ...]:
        """One column in which a hyphen stands for nothing."""
        return tuple(None if cell == "-" else cell for cell in self.column(column))

    def sentence(self) -> Sentence:
        """The sentence without its coreference."""
        speakers = [s for s in self.optional(_SPEAKER) if s]
        entities = (
            Span(s.start, s.end, _FULL_NAMES.get(s.label, s.label)) for s in self.spans(_ENTITY)
        )
        return Sentence(
            words=tuple(self.column(_WORD)),
            pos=tuple(self.column(_POS)),
            tree=self.tree(),
            lemmas=self.optional(_LEMMA),
            framesets=self.optional(_FRAMESET),
            senses=self.optional(_SENSE),
            speaker=speakers[0] if speakers else None,
            entities=tuple(entities),
            predicates=tuple(self.predicate(c) for c in range(_FIXED, self.width - 1)),
        )

    def tree(self) -> Tree | None:
        """The parse; nothing where the column says nothing."""
        if set(self.column(_PARSE)) <= {"-", "*"}:
            return None
        root = Node("")
        stack = [root]
        for at, opened, closed in self.brackets(_PARSE):
            if len(stack) == 1 and not opened:
                self.fail(at, _PARSE, "a word outside the tree")
            stack += [Node(label) for label in opened]
            stack[-1].children.append(at)
            for _ in range(closed):
                if len(stack) == 1:
                    self.fail(at, _PARSE, "')' without its '('")
                done = stack.pop()
                stack[-1].children.append(done.tree())
        if len(stack) > 1:
            self.fail(len(self.rows) - 1, _PARSE, f"'({stack[-1].label}' is not closed")
        (tree, *rest) = root.children
        if rest or isinstance(tree, int):
            self.fail(len(self.rows) - 1, _PARSE, f"{len(rest) + 1} trees, expected one")
        return tree

    def spans(self, column: int) -> list[Span]:
        """Labelled spans of one column, in order of where they start, outer ones first."""
        stack: list[tuple[int, str]] = []
        spans: list[Span] = []
        for at, opened, closed in self.brackets(column):
            stack += [(at, label) for label in opened]
            for _ in range(closed):
                if not stack:
                    self.fail(at, column, "')' without its '('")
                start, label = stack.pop()
                spans.append(Span(start, at + 1, label))
        if stack:
            start, label = stack[-1]
            self.fail(start, column, f"'({label}' is not closed in its sentence")
        return sorted(spans, key=lambda s: (s.start, -s.end))

    def predicate(self, column: int) -> Predicate:
        """The predicate of one column."""
        spans = self.spans(column)
        own = [s.start for s in spans if s.label == "V"]
        if len(own) != 1:
            self.fail(
                own[1] if own else 0,
                column,
                f"found {len(own)} spans '(V' in a predicate's column, expected one",
            )
        return Predicate(own[0], tuple(spans))

    def mentions(self) -> Iterator[tuple[int, int, int]]:
        """(cluster, start, end) of every mention, `end` excluded."""
        column = self.width - 1
        stacks: dict[int, list[int]] = {}
        for at, cell in enumerate(self.column(column)):
            for item in cell.split("|") if cell not in "-*" else ():
                found = _COREFERENCE.fullmatch(item)
                if not found or not (found[1] or found[3]):
                    self.fail(
                        at, column, f"found {cell!r:.80}, expected such as '(3', '3)', '(3)|4)'"
                    )
                cluster = int(found[2])
                stack = stacks.setdefault(cluster, [])
                if found[1]:
                    stack.append(at)
                if found[3]:
                    if not stack:
                        self.fail(at, column, f"'{cluster})' without its '({cluster}'")
                    yield cluster, stack.pop(), at + 1
        for cluster, stack in stacks.items():
            if stack:
                self.fail(stack[-1], column, f"'({cluster}' is not closed in its sentence")

    def brackets(self, column: int) -> Iterator[tuple[int, Sequence[str], int]]:
        """(row, labels opened, how many are closed) of every cell."""
        for at, cell in enumerate(self.column(column)):
            found = _CELL.fullmatch(cell)
            if not cell or not found:
                self.fail(at, column, f"found {cell!r:.80}, expected such as '(NP*', '*)', '*'")
            yield at, found[1].split("(")[1:], len(found[2])
