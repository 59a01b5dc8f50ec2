"""Where the nodes of an inclusion graph stand: what includes to the left of what is included."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import networkx as nx

    from jaxtask.analysis.inclusion import Inclusion

# Times that the nodes of every column are put in the order of their neighbours.
_SWEEPS = 4


@dataclass(frozen=True)
class Node:
    """Tasks that stand in one place: one, or some that are equal.

    Attributes:
        column: Length of the longest path to this node from one that nothing includes.
        row: Columns are centred, so that rows may be halves.

    """

    tasks: tuple[int, ...]
    column: int
    row: float


@dataclass(frozen=True)
class Layout:
    """A graph in columns.

    Attributes:
        edges: Pairs of nodes, by their places in `nodes`; every edge leads to the right.

    """

    nodes: tuple[Node, ...]
    edges: tuple[tuple[int, int], ...]


def layered(inclusion: "Inclusion | None") -> Layout | None:
    """Place the tasks that include others or are included; None where there are none."""
    import networkx as nx

    if inclusion is None:
        return None
    equal = {task: own for own in inclusion.classes for task in own}
    # Equal tasks stand in one place, where the edges among them lead nowhere.
    graph = nx.DiGraph(
        (a, b) for a, b in inclusion.edges if a not in equal or equal[a] != equal.get(b)
    )
    if not graph:
        return None
    columns = [sorted(column) for column in nx.topological_generations(graph)]
    for sweep in range(_SWEEPS):
        row = {node: n - len(c) / 2 for c in columns for n, node in enumerate(c)}
        for column in columns if sweep % 2 == 0 else columns[::-1]:
            column.sort(key=lambda node: _beside(graph, node, row))
            row |= {node: n - len(column) / 2 for n, node in enumerate(column)}
    most = max(len(column) for column in columns)
    nodes: list[Node] = []
    place = {}
    for number, column in enumerate(columns):
        for n, task in enumerate(column):
            place[task] = len(nodes)
            nodes.append(Node(equal.get(task, (task,)), number, n + (most - len(column)) / 2))
    ends = sorted((place[a], place[b]) for a, b in graph.edges)
    return Layout(tuple(nodes), tuple(ends))


def _beside(graph: "nx.DiGraph", node: int, row: dict[int, float]) -> float:
    """Mean row of a node's neighbours; its own where it has none."""
    rows = [row[n] for n in (*graph.predecessors(node), *graph.successors(node))]
    return sum(rows) / len(rows) if rows else row[node]
