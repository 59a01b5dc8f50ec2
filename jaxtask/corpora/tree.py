"""Parse trees over word positions, and the two forms in which corpora write them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jaxtask.errors import CorpusError, shown

_LABEL = re.compile(r"[^\s()]*\s*")


@dataclass(frozen=True)
class Tree:
    """A constituent: its label, and its children, either constituents or positions of words.

    Parts of speech are not nodes; they stand with the sentence.
    """

    label: str
    children: "tuple[Tree | int, ...]"

    def positions(self) -> list[int]:
        """Positions of its words, from left to right."""
        found: list[int] = []
        for child in self.children:
            found.extend([child] if isinstance(child, int) else child.positions())
        return found

    def constituents(self) -> "Iterator[Tree]":
        """Itself and every constituent below, parents first."""
        yield self
        for child in self.children:
            if isinstance(child, Tree):
                yield from child.constituents()


def parse_bits(tree: Tree, size: int) -> list[str]:
    """The tree in CoNLL's column form, one bit a word, such as ``(S(NP*)``."""
    opened, closed = [""] * size, [""] * size
    for node in tree.constituents():
        positions = node.positions()
        opened[positions[0]] += f"({node.label}"
        closed[positions[-1]] += ")"
    return [f"{o}*{c}" for o, c in zip(opened, closed, strict=True)]


def read_bracketed(text: str, words: Sequence[str]) -> tuple[Tree, list[str]]:
    """The tree and the parts of speech of a line such as ``(NP (DT the) (NN end))``.

    The words say where leaves are, so that those with brackets in them do no harm. A bracket may
    stand as ``-LRB-`` in one of the two only, and so may ``/.`` for a full stop.

    Raises:
        CorpusError: The brackets do not balance, or the leaves are not the words.

    """
    root = Node("")
    stack = [root]
    pos: list[str] = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
        elif text[at] == "(":
            label = _LABEL.match(text, at + 1)
            assert label is not None
            end = _leaf_end(text, label.end(), words[len(pos)]) if len(pos) < len(words) else 0
            if end:
                stack[-1].children.append(len(pos))
                pos.append(label[0].strip())
            else:
                stack.append(Node(label[0].strip()))
            at = end or label.end()
        elif text[at] == ")" and len(stack) > 1:
            done = stack.pop()
            stack[-1].children.append(done.tree())
            at += 1
        else:
            expected = shown(words[len(pos)], 80) if len(pos) < len(words) else "no more words"
            raise CorpusError(f"parse_tree has {text[at : at + 20]!r} where words has {expected}")
    if len(stack) > 1 or len(root.children) != 1 or isinstance(root.children[0], int):
        raise CorpusError(f"parse_tree is not one tree with balanced brackets: {text[:60]!r}…")
    if len(pos) != len(words):
        raise CorpusError(f"parse_tree has {len(pos)} words, its sentence {len(words)}")
    return root.children[0], pos


def _leaf_end(text: str, start: int, word: str) -> int:
    """Where a leaf with this word ends; 0 if there is none."""
    other = {"(": "-LRB-", ")": "-RRB-", "-LRB-": "(", "-RRB-": ")"}.get(word, f"/{word}")
    for spelling in (word, other):
        if text.startswith(f"{spelling})", start):
            return start + len(spelling) + 1
    return 0


class Node:
    """A constituent that is being read."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.children: list[Tree | int] = []

    def tree(self) -> Tree:
        """The constituent as it stands now."""
        return Tree(self.label, tuple(self.children))
