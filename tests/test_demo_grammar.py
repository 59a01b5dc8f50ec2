from collections import Counter
from dataclasses import replace

import pytest

from jaxtask.corpora import TASKS, read_conll, read_documents, write_conll
from jaxtask.corpora.read import read_summaries
from jaxtask.demo.grammar import generate, write_corpus


@pytest.fixture(scope="module")
def documents():
    return list(generate(300))


@pytest.mark.slow
def test_deterministic_and_splits_are_slices(documents):
    assert list(generate(300)) == documents
    assert list(generate(20, start=40)) == documents[40:60]
    other = list(generate(300, seed=1))
    assert {len(d.sentences) for d in generate(30, sentences=(2, 3))} == {2, 3}
    assert len({d.text for d in documents} | {d.text for d in other}) == 600


def test_small_vocabulary_varied_sentences(documents):
    words = {w for d in documents for s in d.sentences for w in s.words}
    assert 150 < len(words) <= 400
    texts = [s.text for d in documents for s in d.sentences]
    assert len(set(texts)) > 0.7 * len(texts)
    assert {len(d.sentences) for d in documents} == set(range(4, 13))
    assert len({d.genre for d in documents}) == 5


def test_columns_say_it_all(documents, tmp_path):
    write_conll(documents, tmp_path / "a.conll.gz")
    plain = [replace(d, summary=None) for d in documents]
    assert list(read_conll(tmp_path / "a.conll.gz")) == plain


def test_layers_agree(documents):
    """Chains begin with a name and keep one sex, frames have their verbs, spans are phrases."""
    categories = Counter()
    mentions = Counter()
    for d in documents:
        assert d.chains
        for chain in d.chains:
            tokens = [
                (d.sentences[m.sentence].words[p].lower(), d.sentences[m.sentence].pos[p])
                for m in chain
                for p in range(m.start, m.end)
            ]
            mentions["all"] += len(chain)
            mentions["pronouns"] += sum(tag in ("PRP", "PRP$") for _, tag in tokens)
            pronouns = {w for w, tag in tokens if tag in ("PRP", "PRP$")}
            kinds = ({"she", "her"}, {"he", "him", "his"}, {"it", "its"})
            assert any(pronouns <= kind for kind in kinds)
            first = d.sentences[chain[0].sentence].pos[chain[0].start : chain[0].end]
            assert "NNP" in first
        for s in d.sentences:
            categories.update(e.label for e in s.entities)
            framed = {p for p, f in enumerate(s.framesets) if f}
            assert (
                framed
                == {p.position for p in s.predicates}
                == {n for n, tag in enumerate(s.pos) if tag == "VBD"}
            )
            spans = {(c.positions()[0], c.positions()[-1] + 1) for c in s.tree.constituents()}
            for e in s.entities:
                assert (e.start, e.end) in spans
            for p in s.predicates:
                assert [a.label for a in p.arguments].count("V") == 1
                assert all((a.start, a.end) in spans for a in p.arguments if a.label != "V")
    assert 0.3 < mentions["pronouns"] / mentions["all"] < 0.7
    assert set(categories) == {
        *("PERSON", "ORG", "GPE", "LOC", "FAC", "EVENT", "PRODUCT", "WORK_OF_ART", "DATE")
    }


@pytest.mark.parametrize("name", [n for n, t in TASKS.items() if t.kind == "text"])
def test_every_task_has_targets_that_differ_from_the_text(documents, name):
    targets = [(d, TASKS[name].function(d)[1]) for d in documents]
    assert all(target for _, target in targets)
    assert sum(target != d.text for d, target in targets) > 0.9 * len(targets)
    assert len({target for _, target in targets}) > 0.5 * len(targets)


@pytest.mark.parametrize("name", [n for n in TASKS if n.startswith("has-")])
def test_every_class_occurs(documents, name):
    labels = Counter(
        TASKS[name].function(d.window(n, n + 1))[1]
        for d in documents
        for n in range(len(d.sentences))
    )
    assert min(labels["no"], labels["yes"]) > 0.02 * labels.total()


def test_no_two_tasks_ask_for_the_same(documents):
    names = [n for n, t in TASKS.items() if t.kind == "text"]
    targets = {n: [TASKS[n].function(d)[1] for d in documents] for n in names}
    for n, one in enumerate(names):
        for other in names[n + 1 :]:
            same = sum(a == b for a, b in zip(targets[one], targets[other], strict=True))
            # Up to ten sentences, the first tenth of them is one in every ten.
            limit = 1.0 if {one, other} == {"first10-sent", "every10-sent"} else 0.2
            assert same < limit * len(documents), (one, other)


def test_written_corpus(tmp_path):
    write_corpus(tmp_path, seed=3, train=12, dev=5, test=4)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *("dev.conll", "summaries.jsonl", "test.conll", "train.conll")
    ]
    summaries = read_summaries(tmp_path / "summaries.jsonl")
    read = [
        replace(d, summary=summaries[d.id])
        for split in ("train", "dev", "test")
        for d in read_documents(tmp_path / f"{split}.conll")
    ]
    assert read == list(generate(21, seed=3))
