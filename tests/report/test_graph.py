"""Inclusion graphs in columns."""

from types import SimpleNamespace

from jaxtask.report.graph import layered


def graph(*edges, classes=()):
    return SimpleNamespace(edges=edges, classes=classes)


def test_what_includes_stands_to_the_left():
    edges = ((0, 1), (1, 2), (3, 2), (0, 4), (4, 2))
    layout = layered(graph(*edges))
    column = {node.tasks[0]: node.column for node in layout.nodes}
    assert column == {0: 0, 3: 0, 1: 1, 4: 1, 2: 2}
    found = {(layout.nodes[a].tasks[0], layout.nodes[b].tasks[0]) for a, b in layout.edges}
    assert found == set(edges)
    places = [(node.column, node.row) for node in layout.nodes]
    assert len(set(places)) == len(places)
    assert min(row for _, row in places) == 0


def test_equal_tasks_stand_in_one_place():
    layout = layered(graph((0, 2), (0, 1), (1, 0), classes=((0, 1),)))
    assert [node.tasks for node in layout.nodes] == [(0, 1), (2,)]
    assert layout.edges == ((0, 1),)


def test_two_lines_do_not_cross():
    layout = layered(graph((0, 3), (1, 2)))
    row = {node.tasks[0]: node.row for node in layout.nodes}
    assert (row[0] < row[1]) == (row[3] < row[2])


def test_nothing_to_draw():
    assert layered(None) is None
    assert layered(graph()) is None
    assert layered(graph((0, 1), (1, 0), classes=((0, 1),))) is None
