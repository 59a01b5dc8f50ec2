"""Inclusion that is planted is found, with its direction; equal spans are called equal."""

import networkx as nx
import numpy as np
import pytest

import jaxtask as jt
from analysis.random_banks import factors
from jaxtask.analysis.inclusion import inclusion_graph
from makers import orthonormal

LAYERS, WIDE, D = 6, 8, {"q": (48, 40), "v": (32, 40)}
METRICS = ["grassmann", "energy_core", "rec", "residual"]


def planted(seed):
    """Tasks by the way they lie to `wide`, the same way in every module."""
    rng = np.random.default_rng(seed)
    bank = {}

    def put(task, key, U, s, V):
        bank.setdefault(task, {})[key] = factors(U, s, V)

    for layer in range(LAYERS):
        for module, (d_out, d_in) in D.items():
            key = f"layers.{layer}.{module}"
            bases = [orthonormal(rng, d, 3 * WIDE) for d in (d_out, d_in)]
            U, V = (b[:, :WIDE] for b in bases)
            other = [b[:, WIDE : 2 * WIDE] for b in bases]
            turn = [orthonormal(rng, WIDE, WIDE) for _ in range(4)]
            put("wide", key, U, np.linspace(1, 0.6, WIDE), V)
            put("inside", key, U @ turn[0][:, :3], np.linspace(1, 0.5, 3), V @ turn[1][:, :3])
            # The same spans, turned, and a spectrum that is mostly one direction.
            put("same", key, U @ turn[2], np.geomspace(1, 0.02, WIDE), V @ turn[3])
            put("elsewhere", key, other[0], np.linspace(1, 0.6, WIDE), other[1])
            half = [np.hstack([b[:, :4], o[:, :4]]) for b, o in zip((U, V), other, strict=True)]
            put("half", key, half[0], np.linspace(1, 0.6, WIDE), half[1])
            put("random", key, orthonormal(rng, d_out, WIDE), np.linspace(1, 0.6, WIDE),
                orthonormal(rng, d_in, WIDE))  # fmt: skip
    return jt.AdapterBank.from_factors(bank)


@pytest.fixture(scope="module", params=[0, 1])
def found(request):
    ds = jt.compare(planted(request.param), metrics=METRICS, keep=["spectra"])
    findings = jt.analyze(ds)
    return findings.inclusion, {name: n for n, name in enumerate(findings.tasks)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "target", "word"),
    [
        ("wide", "inside", "includes"),
        ("inside", "wide", "included"),
        ("same", "inside", "includes"),
        ("wide", "same", "equal"),
        ("same", "wide", "equal"),
        ("wide", "elsewhere", "neither"),
        ("wide", "half", "neither"),
        ("wide", "random", "neither"),
        ("inside", "random", "neither"),
    ],
)
def test_direction(found, source, target, word):
    inclusion, number = found
    assert inclusion.direction[number[source], number[target]] == word


def test_numbers(found):
    inclusion, number = found
    wide, inside, same, elsewhere = (number[t] for t in ("wide", "inside", "same", "elsewhere"))
    energy = inclusion.parts["energy_core"]
    assert inclusion.decided_by == "energy_core"
    assert inclusion.resampled == "layers"
    np.testing.assert_allclose(energy[wide, inside], 1, atol=1e-5)
    np.testing.assert_allclose(energy[wide, same], 1, atol=1e-5)
    assert energy[wide, elsewhere] < 0
    assert abs(energy[wide, number["random"]]) < 0.05
    assert inclusion.p[wide, inside] < 1e-6
    assert inclusion.p[wide, elsewhere] > 0.9
    np.testing.assert_allclose(
        inclusion.score, np.mean(list(inclusion.parts.values()), axis=0), atol=1e-12
    )
    np.testing.assert_allclose(inclusion.difference, -inclusion.difference.T, atol=1e-12)
    np.testing.assert_allclose(inclusion.lead_low, -inclusion.lead_high.T, atol=0.02)
    assert (inclusion.lead_low[wide, inside] > 0.5) & (inclusion.low[wide, inside] > 0)


def test_graph(found):
    inclusion, number = found
    same = tuple(sorted((number["wide"], number["same"])))
    assert same in inclusion.classes
    assert (same[0], number["inside"]) in inclusion.edges
    assert not any(number["random"] in edge for edge in inclusion.edges)


def test_less_is_judged_with_less():
    bank = planted(0)
    ds = jt.compare(bank, metrics=["grassmann", "energy_out"], sides="out")
    findings = jt.analyze(ds)
    number = {name: n for n, name in enumerate(findings.tasks)}
    assert findings.inclusion.decided_by == "energy_out"
    assert findings.inclusion.direction[number["wide"], number["inside"]] == "includes"
    assert any("without energy_core, rec, residual" in note for note in findings.notes)
    nothing = jt.analyze(jt.compare(bank, metrics=["grassmann"]))
    assert nothing.inclusion is None
    assert any("Inclusion was not tested" in note and "--keep spectra" in note
               for note in nothing.notes)  # fmt: skip


def words(edges, T, equal=()):
    direction = np.full((T, T), "neither", "<U8")
    for i, j in edges:
        direction[i, j], direction[j, i] = "includes", "included"
    for i, j in equal:
        direction[i, j] = direction[j, i] = "equal"
    return direction


def test_transitive_reduction():
    """What follows in two steps has no edge of its own, whatever rounding says."""
    held = np.random.default_rng(0).uniform(1 - 1e-6, 1, (5, 5))
    edges, classes = inclusion_graph(words([(0, 1), (1, 2), (0, 2), (3, 2)], 5), held)
    assert edges == ((0, 1), (1, 2), (3, 2))
    assert classes == ()


def test_weak_steps_do_not_make_up_for_a_strong_inclusion():
    held = np.zeros((3, 3))
    held[0, 1], held[1, 2], held[0, 2] = 0.4, 0.3, 1
    edges, _ = inclusion_graph(words([(0, 1), (1, 2), (0, 2)], 3), held)
    assert edges == ((0, 1), (0, 2), (1, 2))


def test_it_is_the_reduction_of_networkx_where_all_is_held():
    rng = np.random.default_rng(1)
    order = rng.permutation(9)
    pairs = [(order[i], order[j]) for i in range(9) for j in range(i + 1, 9) if rng.random() < 0.4]
    edges, _ = inclusion_graph(words(pairs, 9), np.ones((9, 9)))
    assert set(edges) == set(nx.transitive_reduction(nx.DiGraph(pairs)).edges)


def test_equal_tasks_and_circles_are_one():
    pairs = [(0, 2), (3, 4), (4, 5), (5, 3), (2, 4)]
    edges, classes = inclusion_graph(words(pairs, 6, [(0, 1)]), np.ones((6, 6)))
    assert classes == ((0, 1), (3, 4, 5))
    assert set(edges) == {(0, 1), (1, 0), (3, 4), (4, 5), (5, 3), (0, 2), (2, 3)}
