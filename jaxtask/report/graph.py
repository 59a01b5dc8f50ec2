"""Where the nodes of an inclusion graph stand: what includes others to the left of what is included."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import networkx as nx

# Times that the nodes of every column are put in the order of their neighbours.
_SWEEPS = 4


@dataclass(frozen=True)
class Node:
    """Tasks that stand in one place, because each includes the other by way of the edges."""

    tasks: tuple[int, ...]
    column: int
    """Most edges that lead here from a node that nothing includes."""
    row: float
    """Columns are centred, so that rows may be halves."""


@dataclass(frozen=True)
class Layout:
    """A graph in columns."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[int, int], ...]
    """From node to node, by their places in `nodes`; every edge leads to the right."""


def layered(edges: Sequence[tuple[int, int]]) -> Layout:
    """Place the tasks that edges join.

    Args:
        edges: (i, j) where task i includes task j.

    """
    import networkx as nx

    joined = nx.condensation(nx.DiGraph(list(edges)))
    columns = [sorted(column) for column in nx.topological_generations(joined)]
    for sweep in range(_SWEEPS):
        order = columns if sweep % 2 == 0 else columns[::-1]
        row = {node: n - len(c) / 2 for c in columns for n, node in enumerate(c)}
        for column in order:
            column.sort(key=lambda node: _beside(joined, node, row))
            row |= {node: n - len(column) / 2 for n, node in enumerate(column)}
    most = max(len(column) for column in columns)
    nodes, place = [], {}
    for number, column in enumerate(columns):
        for n, node in enumerate(column):
            place[node] = len(nodes)
            members = tuple(sorted(joined.nodes[node]["members"]))
            nodes.append(Node(members, number, n + (most - len(column)) / 2))
    ends = sorted((place[a], place[b]) for a, b in joined.edges)
    return Layout(tuple(nodes), tuple(ends))


def _beside(graph: "nx.DiGraph", node: int, row: dict[int, float]) -> float:
    """Mean row of a node's neighbours; its own where it has none."""
    rows = [row[n] for n in (*graph.predecessors(node), *graph.successors(node))]
    return sum(rows) / len(rows) if rows else row[node]
