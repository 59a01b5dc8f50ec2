"""Parse trees over word positions, and the two forms in which corpora write them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from jaxtask.errors import CorpusError, shown

MAX_DEPTH = 200
"""Levels of a tree. Trees of treebanks have up to 50; what is far deeper is no parse."""

# White space is what treebanks write between words; all else is part of words.
_SPACES = " \t\r\n"
_LABEL = re.compile(rf"[^{_SPACES}()]*[{_SPACES}]*")


@dataclass(frozen=True)
class Tree:
    """A constituent: its label, and its children, either constituents or positions of words.

    Parts of speech are not nodes; they stand with the sentence.

    Attributes:
        depth: Levels of constituents, itself among them.

    Raises:
        CorpusError: It is empty, or has over `MAX_DEPTH` levels.

    """

    label: str
    children: "tuple[Tree | int, ...]"
    depth: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.children:
            raise CorpusError(f"the constituent {shown(self.label, 40)} of a parse tree is empty")
        depth = 1 + max(0 if isinstance(c, int) else c.depth for c in self.children)
        if depth > MAX_DEPTH:
            raise CorpusError(f"a parse tree has over {MAX_DEPTH} levels")
        object.__setattr__(self, "depth", depth)

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
    """The tree in CoNLL's column form, one bit a word, such as ``(S(NP*)``.

    Raises:
        CorpusError: A label holds a bracket or an asterisk.

    """
    opened, closed = [""] * size, [""] * size
    for node in tree.constituents():
        if set("()*") & set(node.label):
            raise CorpusError(f"the label {shown(node.label, 80)} cannot stand in a column")
        positions = node.positions()
        opened[positions[0]] += f"({node.label}"
        closed[positions[-1]] += ")"
    return [f"{o}*{c}" for o, c in zip(opened, closed, strict=True)]


def read_bracketed(text: str, words: Sequence[str]) -> tuple[Tree, list[str]]:
    """The tree and the parts of speech of a line such as ``(NP (DT the) (NN end))``.

    The words say where leaves are, so that those with brackets in them do no harm. A bracket may
    stand as ``-LRB-`` in one of the two only, and so may ``/.`` for a full stop.

    Raises:
        CorpusError: The brackets do not balance, a constituent is empty, there are over `MAX_DEPTH`
            levels, or the leaves are not the words.

    """
    root = Node("")
    stack = [root]
    pos: list[str] = []
    at = 0
    while at < len(text):
        if text[at] in _SPACES:
            at += 1
        elif text[at] == "(":
            label = _LABEL.match(text, at + 1)
            assert label is not None
            end = _leaf_end(text, label.end(), words[len(pos)]) if len(pos) < len(words) else 0
            if end:
                stack[-1].children.append(len(pos))
                pos.append(label[0].rstrip(_SPACES))
            else:
                if len(stack) > MAX_DEPTH:
                    raise CorpusError(f"parse_tree has over {MAX_DEPTH} levels")
                stack.append(Node(label[0].rstrip(_SPACES)))
            at = end or label.end()
        elif text[at] == ")" and len(stack) > 1:
            done = stack.pop()
            stack[-1].children.append(done.tree())
            at += 1
        else:
            expected = shown(words[len(pos)], 40) if len(pos) < len(words) else "no more words"
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
