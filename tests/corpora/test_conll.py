import gzip
from collections import Counter
from dataclasses import replace

import pytest

from corpora.story import COLUMNS, story
from jaxtask.corpora import Mention, Span, read_conll, write_conll
from jaxtask.errors import CorpusError


@pytest.fixture
def save(tmp_path):
    def _save(text, name="a.conll"):
        path = tmp_path / name
        data = text.encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return _save


@pytest.mark.parametrize("name", ["a.gold_conll", "a.conll.gz"])
def test_every_layer(save, name):
    (document,) = read_conll(save(COLUMNS, name))
    assert document == story()


def test_round_trip(tmp_path):
    documents = [story(), story(part=3, id="other", genre=None)]
    for name in ("a.conll", "a.conll.gz"):
        write_conll(documents, tmp_path / name)
        assert list(read_conll(tmp_path / name)) == documents
    again = tmp_path / "b.conll.gz"
    write_conll(documents, again)
    assert again.read_bytes() == (tmp_path / "a.conll.gz").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.conll", "a.conll.gz", "b.conll.gz"]


def test_several_documents_stream(save):
    text = COLUMNS + COLUMNS.replace("part 002", "part 003") + "broken"
    documents = read_conll(save(text))
    assert [next(documents).part, next(documents).part] == [2, 3]
    with pytest.raises(CorpusError, match="line 111: a row outside a document"):
        next(documents)


def test_mentions_of_one_cluster_nest(save):
    text = COLUMNS.replace("IN (PP* - - - Ann * * -", "IN (PP* - - - Ann * * (7", 1)
    text = text.replace("(GPE) *) 7)", "(GPE) *) 7)|7)|(7)")
    (document,) = read_conll(save(text))
    first = [m for m in document.chains[1] if m.sentence == 0]
    assert first == [Mention(0, 3, 7), Mention(0, 5, 7), Mention(0, 6, 7)]


def test_names_and_missing_columns(save):
    (document,) = read_conll(save(COLUMNS.replace("(PERSON*", "(PER*")))
    assert document == story()
    bare = COLUMNS.replace("(TOP(PP*", "-").replace("NN (NP*)))", "NN -")
    (document,) = read_conll(save(bare))
    assert document.sentences[3].tree is None
    assert not document.has("parse")


@pytest.mark.parametrize(
    ("old", "new", "where", "what"),
    [
        ("(ARG0* (4\n", "(ARG0*\n", "line 3, column 12", "13 columns, those above have 12"),
        ("* - - - Ann * * -\n", "* - - - Ann\n", "line 7, column 10", "at least 12"),
        ("(TOP(S(NP* - - - Ann", "(TOP(S(NP*))) - - - Ann", "line 3, column 6", "outside the tree"),
        ("story 2 4 bank", "story 2 5 bank", "line 6, column 3", "number is '5', expected 4"),
        ("story 2 1 waits", "story 2 x waits", "line 52, column 3", "number is 'x', expected 1"),
        ("(VP(VP*", "(VP*", "line 36, column 6", "without its"),
        ("(TOP(S* ", "(S* ", "line 20, column 6", "without its '\\('"),
        ("(TOP(PP*", "(TOP(XX(PP*", "line 39, column 6", "'\\(TOP' is not closed"),
        ("(TOP(PP* ", "NP( ", "line 38, column 6", "found 'NP\\('"),
        ("(GPE) *) 7)", "(GPE* *) 7)", "line 8, column 11", "'\\(GPE' is not closed"),
        (". *)) - - - Ann * *", ". *)) - - - Ann *) *", "line 11, column 11", "without its"),
        ("(C-V*) *", "(V*) *", "line 33, column 13", "found 2 spans '\\(V'"),
        ("(V*) -\ngum/news/story 2 3 the", "* -\ngum/news/story 2 3 the", "line 2, column 12",
         "found 0 spans"),
        ("* (7)\ngum/news/story 2 2 is", "* (7\ngum/news/story 2 2 is", "line 14, column 12",
         "'\\(7' is not closed"),
        ("*) 4)\ngum/news/story 2 2 vis", "*) 5)\ngum/news/story 2 2 vis", "line 3, column 13",
         "'5\\)' without its"),
        ("(GPE) *) 7)", "(GPE) *) x7", "line 8, column 13", "found 'x7'"),
        ("#end document\n", "", "a.conll", "ends inside document .*, begun in line 1"),
        ("#begin document (gum", "#begin (gum", "line 1", "expected '#begin document"),
        ("\n\ngum/news/story 2 0 In", "\n#begin document (x); part 0\ngum/news/story 2 0 In",
         "line 37", "was not ended"),
    ],
)  # fmt: skip
def test_what_does_not_fit(save, old, new, where, what):
    assert old in COLUMNS
    path = save(COLUMNS.replace(old, new, 1))
    with pytest.raises(CorpusError, match=what) as error:
        list(read_conll(path))
    assert str(path) in str(error.value)
    assert where in str(error.value)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (gzip.compress(COLUMNS.encode())[:-200], "cannot be read"),
        (b"no gzip", "cannot be read"),
        (gzip.compress(b"#begin document (x); part 0\n\xff"), "not UTF-8"),
    ],
    # By hand: a compressed text has its time in it, and workers must agree on names.
    ids=["cut off", "not compressed", "another encoding"],
)
def test_damaged_files(tmp_path, data, what):
    path = tmp_path / "a.gz"
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=what) as error:
        list(read_conll(path))
    assert str(path) in str(error.value)


def test_disk_trouble_is_one_error_and_leaves_nothing(tmp_path):
    with pytest.raises(CorpusError, match="cannot be written"):
        write_conll([story()], tmp_path / "no" / "a.conll")
    (tmp_path / "a.conll").mkdir()
    with pytest.raises(CorpusError, match="cannot be written"):
        write_conll([story()], tmp_path / "a.conll")
    assert [p.name for p in tmp_path.iterdir()] == ["a.conll"]


def test_spans_that_cross_cannot_be_written(tmp_path):
    chain = (Mention(0, 0, 2), Mention(0, 1, 3))
    with pytest.raises(CorpusError, match="words 1 to 3 cross another span, which ends at 2"):
        write_conll([story(chains=(chain,))], tmp_path / "a.conll")
    write_conll([story(chains=((chain[0],), (chain[1],)))], tmp_path / "b.conll")
    first, *rest = story().sentences
    crossing = replace(first, entities=(Span(0, 2, "ORG"), Span(1, 4, "GPE")))
    with pytest.raises(CorpusError, match="words 1 to 4 cross"):
        write_conll([story(sentences=(crossing, *rest))], tmp_path / "a.conll")
    assert [p.name for p in tmp_path.iterdir()] == ["b.conll"]


# From the corpora's own descriptions, and for EWT's tokens as counted in its files.
FACTS = {"gum": (108, 98_363), "ewt": (1_143, 253_354)}


@pytest.mark.parametrize("name", FACTS)
def test_real_corpora(corpus, name):
    """Against counts of characters in the files, made without reading their structure."""
    files, documents = corpus(name)
    raw = Counter()
    for file in files:
        for line in gzip.decompress(file.read_bytes()).decode().splitlines():
            if line.startswith("#begin"):
                raw["documents"] += 1
            elif line.strip() and not line.startswith("#"):
                cells = line.split()
                raw["words"] += 1
                raw["constituents"] += cells[5].count("(")
                raw["entities"] += cells[10].count("(")
                raw["frames"] += sum(c.count("(V*") for c in cells[11:-1])
                raw["arguments"] += sum(c.count("(") for c in cells[11:-1])
                raw["mentions"] += cells[-1].count("(")
                raw["framesets"] += cells[7] != "-"
    sentences = [s for d in documents for s in d.sentences]
    assert (len(documents), sum(len(s.words) for s in sentences)) == FACTS[name]
    assert (
        raw
        == +Counter(
            documents=len(documents),
            words=sum(len(s.words) for s in sentences),
            constituents=sum(len(list(s.tree.constituents())) for s in sentences),
            entities=sum(len(s.entities) for s in sentences),
            frames=sum(len(s.predicates) for s in sentences),
            arguments=sum(len(p.arguments) for s in sentences for p in s.predicates),
            mentions=sum(len(c) for d in documents for c in d.chains),
            framesets=sum(f is not None for s in sentences for f in s.framesets),
        )
        + Counter()
    )
    assert not any(e.label == "PER" for s in sentences for e in s.entities)


@pytest.mark.parametrize("name", FACTS)
def test_real_corpora_round_trip(corpus, name, tmp_path):
    _, documents = corpus(name)
    some = documents[::10]
    write_conll(some, tmp_path / "a.conll")
    assert list(read_conll(tmp_path / "a.conll")) == some
