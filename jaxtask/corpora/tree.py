"""Parse trees over word positions, and their two written forms."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jaxtask.errors import CorpusError

_TOKEN = re.compile(r"\(|\)|[^\s()]+")
_BRACKETS = {"-LRB-": "(", "-RRB-": ")"}


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


def bracketed(tree: Tree, words: Sequence[str], pos: Sequence[str]) -> str:
    """The tree on one line with words and parts of speech, such as ``(NP (DT the) (NN end))``."""
    escaped = {name: mark for mark, name in _BRACKETS.items()}

    def write(node: Tree | int) -> str:
        if isinstance(node, int):
            return f"({pos[node]} {escaped.get(words[node], words[node])})"
        return f"({node.label} {' '.join(map(write, node.children))})"

    return write(tree)


def read_bracketed(text: str) -> tuple[Tree, list[str], list[str]]:
    """The tree, the words and the parts of speech that one bracketed line holds.

    Raises:
        CorpusError: The brackets do not balance, or a node holds both words and constituents.

    """
    root, words, pos = Node(""), list[str](), list[str]()
    stack = [root]
    tokens = _TOKEN.findall(text)
    for n, token in enumerate(tokens):
        if token == "(":
            label = tokens[n + 1] if n + 1 < len(tokens) and tokens[n + 1] not in "()" else ""
            stack.append(Node(label))
        elif token == ")":
            if len(stack) == 1:
                raise CorpusError(f"parse tree {text[:60]!r}…: ')' without its '('")
            done = stack.pop()
            if done.word is None:
                stack[-1].children.append(done.tree())
            else:
                stack[-1].children.append(len(words))
                words.append(_BRACKETS.get(done.word, done.word))
                pos.append(done.label)
        elif tokens[n - 1] != "(":
            if stack[-1].word is not None or stack[-1].children:
                raise CorpusError(f"parse tree {text[:60]!r}…: unexpected {token!r}")
            stack[-1].word = token
    if len(stack) > 1 or len(root.children) != 1 or isinstance(root.children[0], int):
        raise CorpusError(f"parse tree {text[:60]!r}…: expected one tree with balanced brackets")
    return root.children[0], words, pos


class Node:
    """A constituent that is being read."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.word: str | None = None
        self.children: list[Tree | int] = []

    def tree(self) -> Tree:
        """The constituent as it stands now."""
        return Tree(self.label, tuple(self.children))
