"""Documents from CoNLL-2012 columns."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

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
from jaxtask.corpora.files import text_lines
from jaxtask.corpora.tree import MAX_DEPTH, Node, Tree
from jaxtask.errors import CorpusError, shown

_BEGIN = re.compile(r"#begin document \((.+)\)(?:; part ([0-9]{1,9}))?")
_CELL = re.compile(r"((?:\([^()*]*)*)\*?(\)*)")
_COREFERENCE = re.compile(r"(\()?([0-9]+)(\))?")

# Columns before the predicates', counted from 0.
_NUMBER, _WORD, _POS, _PARSE, _LEMMA, _FRAMESET, _SENSE, _SPEAKER, _ENTITY, _FIXED = range(2, 12)

# Far more characters than sentences have; a file without blank lines would fill the memory.
_MAX_SENTENCE = 1 << 22
_MAX_ITEMS = 1000  # mentions that begin or end at one word

# CoNLL-2003's short name for what OntoNotes writes in full.
_FULL_NAMES = {"PER": "PERSON"}

T = TypeVar("T")


def read_conll(path: str | Path) -> Iterator[Document]:
    """The documents of one file in CoNLL-2012 columns, plain or gzipped, one at a time.

    Columns are separated by ASCII spaces and tabs, and by nothing else: no-break and ideographic
    spaces are part of words. Where every row of a sentence has its columns between single tabs, a
    cell may be empty and a word may hold spaces. A sentence without predicates has 12 columns. A
    hyphen or an empty cell stands for nothing in every column after the word's. Entities named
    ``PER`` become ``PERSON``. A span or mention that is listed twice counts once.

    Where the columns of the parse, the entities, the predicates or the coreference say what cannot
    be (brackets that do not balance, a predicate without its span ``(V``, a tree of over 200
    levels), the document is read without that layer, and `Document.broken` says why.

    Raises:
        CorpusError: Rows or documents are damaged: columns are missing or too many, words are
            missing or wrongly numbered, a document is not begun or not ended. The message names
            file, line and column (counted from 1).

    """
    lines = text_lines(path)
    for number, line in lines:
        text = line.strip(" \t\n")
        if text.startswith("#begin"):
            found = _BEGIN.fullmatch(text)
            if not found:
                raise CorpusError(
                    f"{path}, line {number}: found {shown(text, 80)}, expected "
                    "'#begin document (ID); part NNN'"
                )
            yield _document(path, number, found[1], int(found[2] or 0), lines)
        elif text and not text.startswith("#"):
            raise CorpusError(f"{path}, line {number}: a row outside a document: {shown(text, 40)}")


def _document(
    path: str | Path, begin: int, id: str, part: int, lines: Iterator[tuple[int, str]]
) -> Document:
    sentences: list[Sentence] = []
    mentions: list[tuple[object, Mention]] = []
    broken: dict[Layer, str] = {}
    rows: list[tuple[int, str]] = []
    size = 0
    for number, line in lines:
        text = line.strip(" \t\n")
        if text.startswith("#begin"):
            raise CorpusError(
                f"{path}, line {number}: document {shown(id, 80)} was not ended before this"
            )
        ended = text.startswith("#end document")
        if (ended or not text) and rows:
            block = _Block(path, rows, broken)
            mentions += [(c, Mention(len(sentences), s, e)) for c, s, e in block.mentions()]
            sentences.append(block.sentence())
            rows, size = [], 0
        if ended:
            chains = chains_of(mentions)
            return Document(id, part, genre_of(id), tuple(sentences), chains, broken=broken)
        if text and not text.startswith("#"):
            # Tabs at the ends bound empty cells.
            rows.append((number, line.rstrip("\n")))
            size += len(line)
            if size > _MAX_SENTENCE:
                raise CorpusError(
                    f"{path}, line {number}: a sentence of over {_MAX_SENTENCE:,} characters"
                )
    raise CorpusError(
        f"{path}: the file ends inside document {shown(id, 80)}, begun in line {begin}"
    )


def _table(rows: Sequence[str]) -> list[list[str]]:
    """The cells of a sentence's rows, between single tabs where these make whole rows."""
    spaced = [[c for c in row.replace("\t", " ").split(" ") if c] for row in rows]
    tabbed = [[c.strip(" ") for c in row.split("\t")] for row in rows]
    if min(map(len, tabbed)) <= _FIXED:
        return spaced
    # Several tabs may also be there for looks.
    return spaced if _is_whole(spaced) and not _is_whole(tabbed) else tabbed


def _is_whole(table: Sequence[Sequence[str]]) -> bool:
    """Whether rows are of one length, with words numbered as they have to be."""
    return len({len(row) for row in table}) == 1 and all(
        row[_NUMBER : _NUMBER + 1] == [str(at)] for at, row in enumerate(table)
    )


class _Block:
    """The rows of one sentence. What is wrong with a layer is noted in `broken`, once a layer."""

    def __init__(
        self, path: str | Path, rows: Sequence[tuple[int, str]], broken: dict[Layer, str]
    ) -> None:
        self.path = path
        self.lines = [number for number, _ in rows]
        self.rows = _table([row for _, row in rows])
        self.width = len(self.rows[0])
        self.broken = broken
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
                found = shown(fields[_NUMBER], 40)
                self.fail(at, _NUMBER, f"the word's number is {found}, expected {at}")
            if not fields[_WORD]:
                self.fail(at, _WORD, "the word is missing")

    def fail(self, at: int, column: int, what: str) -> NoReturn:
        """Raise, naming file, line and column of row `at`."""
        raise CorpusError(f"{self.path}, line {self.lines[at]}, column {column + 1}: {what}")

    def layer(self, name: Layer, read: Callable[[], T], nothing: T) -> T:
        """What a layer has here; nothing once it is broken anywhere in the document."""
        if name not in self.broken:
            try:
                return read()
            except CorpusError as fault:
                self.broken[name] = str(fault)
        return nothing

    def column(self, column: int) -> list[str]:
        """One column from top to bottom; what is empty is a hyphen."""
        return [fields[column] or "-" for fields in self.rows]

    def optional(self, column: int) -> tuple[str | None, ...]:
        """One column in which a hyphen stands for nothing."""
        return tuple(None if cell == "-" else cell for cell in self.column(column))

    def sentence(self) -> Sentence:
        """The sentence without its coreference."""
        speakers = [s for s in self.optional(_SPEAKER) if s]
        return Sentence(
            words=tuple(self.column(_WORD)),
            pos=tuple(self.column(_POS)),
            tree=self.layer("parse", self.tree, None),
            lemmas=self.optional(_LEMMA),
            framesets=self.optional(_FRAMESET),
            senses=self.optional(_SENSE),
            speaker=speakers[0] if speakers else None,
            entities=self.layer("entities", self.entities, ()),
            predicates=self.layer("predicates", self.predicates, ()),
        )

    def entities(self) -> tuple[Span, ...]:
        """The named entities."""
        spans = self.spans(_ENTITY)
        return tuple(Span(s.start, s.end, _FULL_NAMES.get(s.label, s.label)) for s in spans)

    def predicates(self) -> tuple[Predicate, ...]:
        """The predicates, one a column."""
        return tuple(self.predicate(c) for c in range(_FIXED, self.width - 1))

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
            if len(stack) > MAX_DEPTH + 1:
                self.fail(at, _PARSE, f"a tree of over {MAX_DEPTH} levels")
            stack[-1].children.append(at)
            for _ in range(closed):
                if len(stack) == 1:
                    self.fail(at, _PARSE, "')' without its '('")
                done = stack.pop()
                stack[-1].children.append(done.tree())
        if len(stack) > 1:
            label = shown(f"({stack[-1].label}", 40)
            self.fail(len(self.rows) - 1, _PARSE, f"{label} is not closed")
        (tree, *rest) = root.children
        if rest or isinstance(tree, int):
            self.fail(len(self.rows) - 1, _PARSE, f"{len(rest) + 1} trees, expected one")
        return tree

    def spans(self, column: int) -> list[Span]:
        """Labelled spans of one column, in order of where they start, outer ones first."""
        stack: list[tuple[int, str]] = []
        spans: dict[Span, None] = {}  # each once, in order
        for at, opened, closed in self.brackets(column):
            if not all(opened):
                self.fail(at, column, "'(' without a label")
            stack += [(at, label) for label in opened]
            for _ in range(closed):
                if not stack:
                    self.fail(at, column, "')' without its '('")
                start, label = stack.pop()
                spans[Span(start, at + 1, label)] = None
        if stack:
            start, label = stack[-1]
            self.fail(start, column, f"{shown(f'({label}', 40)} is not closed in its sentence")
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

    def mentions(self) -> list[tuple[str, int, int]]:
        """(cluster, start, end) of every mention, `end` excluded."""
        return self.layer("chains", lambda: list(self._mentions()), [])

    def _mentions(self) -> Iterator[tuple[str, int, int]]:
        column = self.width - 1
        stacks: dict[str, list[int]] = {}
        for at, cell in enumerate(self.column(column)):
            items = [] if cell in ("-", "*") else cell.split("|", _MAX_ITEMS)
            for item in items[:_MAX_ITEMS]:
                found = _COREFERENCE.fullmatch(item)
                if not found or not (found[1] or found[3]):
                    self.fail(
                        at,
                        column,
                        f"found {shown(cell, 40)}, expected such as '(3', '3)', '(3)|4)'",
                    )
                # A name, though written as a number: of any length, zeros before it aside.
                cluster = found[2].lstrip("0") or "0"
                stack = stacks.setdefault(cluster, [])
                if found[1]:
                    stack.append(at)
                if found[3]:
                    if not stack:
                        closed, opened = shown(f"{cluster})", 40), shown(f"({cluster}", 40)
                        self.fail(at, column, f"{closed} without its {opened}")
                    yield cluster, stack.pop(), at + 1
            if len(items) > _MAX_ITEMS:
                self.fail(at, column, f"over {_MAX_ITEMS:,} mentions at one word")
        for cluster, stack in stacks.items():
            if stack:
                opened = shown(f"({cluster}", 40)
                self.fail(stack[-1], column, f"{opened} is not closed in its sentence")

    def brackets(self, column: int) -> Iterator[tuple[int, Sequence[str], int]]:
        """(row, labels opened, how many are closed) of every cell."""
        for at, cell in enumerate(self.column(column)):
            if cell == "-":
                yield at, (), 0
                continue
            if cell.count("(") > MAX_DEPTH:
                self.fail(at, column, f"over {MAX_DEPTH} brackets open at one word")
            found = _CELL.fullmatch(cell)
            if not found:
                self.fail(
                    at, column, f"found {shown(cell, 40)}, expected such as '(NP*', '*)', '*'"
                )
            yield at, found[1].split("(")[1:], len(found[2])
