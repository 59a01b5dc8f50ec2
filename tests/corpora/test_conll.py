import gzip
import re
import time
from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from corpora.story import COLUMNS, story
from jaxtask.corpora import (
    Document,
    Mention,
    Sentence,
    Span,
    Tree,
    build_tasks,
    read_conll,
    write_conll,
)
from jaxtask.errors import CorpusError, TaskError


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


DAMAGE = [
    ("(ARG0* (4\n", "(ARG0*\n", "line 3, column 12", "13 columns, those above have 12"),
    ("* - - - Ann * * -\n", "* - - - Ann\n", "line 7, column 10", "at least 12"),
    ("story 2 4 bank", "story 2 5 bank", "line 6, column 3", "number is '5', expected 4"),
    ("story 2 1 waits", "story 2 x waits", "line 52, column 3", "number is 'x', expected 1"),
    ("story 2 4 bank", f"story 2 {'9' * 5000} bank", "line 6, column 3", "number is '9999"),
    ("story 2 4 bank", "story 2 4 ba nk", "line 6, column 13", "14 columns, those above have 13"),
    ("#end document\n", "", "a.conll", "ends inside document .*, begun in line 1"),
    ("#begin document (gum", "#begin (gum", "line 1", "expected '#begin document"),
    ("part 002", f"part {'9' * 5000}", "line 1", "expected '#begin document"),
    ("part 002", "part \u0662", "line 1", "expected '#begin document"),
    ("\n\ngum/news/story 2 0 In", "\n#begin document (x); part 0\ngum/news/story 2 0 In",
     "line 37", "was not ended"),
    ("\n\ngum/news/story 2 0 In", "\n#end document\n\ngum/news/story 2 0 In",
     "line 39", "a row outside a document"),
    ("\n\ngum/news/story 2 0 In", "\n\u00a0\ngum/news/story 2 0 In",
     "line 37, column 1", "expected at least 12"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "where", "what"), DAMAGE)
def test_damage_is_an_error(save, old, new, where, what):
    assert old in COLUMNS
    path = save(COLUMNS.replace(old, new, 1))
    with pytest.raises(CorpusError, match=what) as error:
        list(read_conll(path))
    assert str(path) in str(error.value)
    assert where in str(error.value)
    assert len(str(error.value)) < 200 + len(str(path))


BROKEN = [
    ("(TOP(S(NP* - - - Ann", "(TOP(S(NP*))) - - - Ann", "parse", "line 3, column 6",
     "outside the tree"),
    ("(VP(VP*", "(VP*", "parse", "line 36, column 6", "without its"),
    ("(TOP(S* ", "(S* ", "parse", "line 20, column 6", "without its '\\('"),
    ("(TOP(PP*", "(TOP(XX(PP*", "parse", "line 39, column 6", "'\\(TOP' is not closed"),
    ("(TOP(PP* ", "NP( ", "parse", "line 38, column 6", "found 'NP\\('"),
    ("(TOP(PP* ", f"(TOP(PP(N{'x' * 9000}* ", "parse", "line 39, column 6", "not closed"),
    ("NN (NP*))) ", "NN (NP*))))))) ", "parse", "line 39, column 6", "without its"),
    ("(TOP(PP* ", f"{'(S' * 201}* ", "parse", "line 38, column 6", "over 200 brackets"),
    ("(TOP(PP* - - - - * -\ngum/news/story 2 1 town NN (NP*)))",
     f"{'(S' * 150}* - - - - * -\ngum/news/story 2 1 town NN {'(S' * 51}*{')' * 201}", "parse",
     "line 39, column 6", "over 200 levels"),
    ("(GPE) *) 7)", "(GPE* *) 7)", "entities", "line 8, column 11", "'\\(GPE' is not closed"),
    (". *)) - - - Ann * *", ". *)) - - - Ann *) *", "entities", "line 11, column 11",
     "without its"),
    ("(GPE) *) 7)", "() *) 7)", "entities", "line 8, column 11", "without a label"),
    ("(GPE) *) 7)", f"{'x' * 5000} *) 7)", "entities", "line 8, column 11", "found 'xxx"),
    ("(C-V*) *", "(V*) *", "predicates", "line 33, column 13", "found 2 spans '\\(V'"),
    ("(V*) -\ngum/news/story 2 3 the", "* -\ngum/news/story 2 3 the", "predicates",
     "line 2, column 12", "found 0 spans"),
    ("* (7)\ngum/news/story 2 2 is", "* (7\ngum/news/story 2 2 is", "chains", "line 14, column 12",
     "'\\(7' is not closed"),
    ("*) 4)\ngum/news/story 2 2 vis", "*) 5)\ngum/news/story 2 2 vis", "chains",
     "line 3, column 13", "'5\\)' without its"),
    ("(GPE) *) 7)", "(GPE) *) x7", "chains", "line 8, column 13", "found 'x7'"),
    ("(GPE) *) 7)", "(GPE) *) 7)|", "chains", "line 8, column 13", "found '7\\)\\|'"),
    ("(GPE) *) 7)", "(GPE) *) ٧)", "chains", "line 8, column 13", "found"),
    ("(GPE) *) 7)", f"(GPE) *) {'|'.join(['(8)'] * 1001)}", "chains", "line 8, column 13",
     "over 1,000 mentions"),
    ("(GPE) *) 7)", f"(GPE) *) {'8' * 5000})", "chains", "line 8, column 13", "without its"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "layer", "where", "what"),
    BROKEN,
    ids=[f"{n}-{b[2]}" for n, b in enumerate(BROKEN)],
)
def test_a_broken_layer_is_absent_and_the_rest_is_there(save, old, new, layer, where, what):
    assert old in COLUMNS
    path = save(COLUMNS.replace(old, new, 1) + COLUMNS.replace("part 002", "part 003"))
    document, whole = read_conll(path)
    assert document == story(broken=document.broken)
    assert list(document.broken) == [layer]
    assert str(path) in document.broken[layer]
    assert where in document.broken[layer]
    assert re.search(what, document.broken[layer])
    assert len(document.broken[layer]) < 200 + len(str(path))
    layers = ("parse", "entities", "predicates", "chains", "genre")
    assert [n for n in layers if not document.has(n)] == [layer]
    assert not document.window(0, 2).has(layer)
    assert whole == story(part=3)


def test_broken_layers_drop_documents_from_the_tasks_that_need_them(save, tmp_path):
    column = COLUMNS.replace("(V*) -\ngum/news/story 2 3 the", "* -\ngum/news/story 2 3 the")
    path = save(column + COLUMNS.replace("part 002", "part 003"))
    built = build_tasks(["srl", "ner", "coref", "syntax"], {"train": [path]}, tmp_path / "out")
    assert [b["splits"]["train"]["examples"] for b in built] == [1, 2, 2, 2]
    (reason,) = built[0]["splits"]["train"]["dropped"]
    assert reason == (
        f"the layer 'predicates' is broken (first: {path}, line 2, column 12: found 0 spans '(V' "
        "in a predicate's column, expected one)"
    )
    assert not any(b["splits"]["train"]["dropped"] for b in built[1:])
    path = save(column, "b.conll")
    with pytest.raises(TaskError, match=r"'srl' has no example in train .*'predicates' is broken"):
        build_tasks(["srl"], {"train": [path]}, tmp_path / "none")


def columns(*changes, between="\t", nothing=""):
    """The story's columns with another separator, and with what stands for nothing left out."""
    lines = []
    for line in COLUMNS.splitlines():
        if line and not line.startswith("#"):
            line = between.join(nothing if c == "-" else c for c in line.split(" "))
        lines.append(line)
    text = "\n".join(lines) + "\n"
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize(
    "space", ["\u00a0", "\u3000", "\u0085", "\u2028", "\u2003", "\x0b", "\x1c"]
)
@pytest.mark.parametrize("name", ["a.conll", "a.conll.gz"])
def test_only_ascii_spaces_and_tabs_separate(save, tmp_path, space, name):
    """All else is part of words, wherever it stands in them."""
    words = [f"ba{space}nk", f"{space}bank", f"bank{space}", space]
    for word in words:
        for between in (" ", "\t", "   \t "):
            text = columns(
                (f"{between}bank{between}", f"{between}{word}{between}"),
                between=between,
                nothing="-",
            )
            (document,) = read_conll(save(text, name))
            assert document.sentences[0].words[4] == word
            first, *rest = story().sentences
            expected = replace(first, words=(*first.words[:4], word, *first.words[5:]))
            assert document == story(sentences=(expected, *rest))
        write_conll([document], tmp_path / f"again-{name}")
        assert list(read_conll(tmp_path / f"again-{name}")) == [document]


def test_tabs_bound_empty_cells_and_words_of_several_parts(save, tmp_path):
    assert list(read_conll(save(columns()))) == [story()]
    assert list(read_conll(save(columns(between=" \t  ")))) == [story()]
    assert list(read_conll(save(columns(("\t*\t", "\t\t"))))) == [story()]
    assert list(read_conll(save(columns(between="\t\t", nothing="-")))) == [story()]
    (document,) = read_conll(save(columns(("\tOslo\t", "\tNew Oslo\t"))))
    assert document.sentences[0].words[6] == document.sentences[5].words[0] == "New Oslo"
    write_conll([document], tmp_path / "again.conll")
    assert list(read_conll(tmp_path / "again.conll")) == [document]
    (document,) = read_conll(save(columns(("\tNNP\t", "\t\t"))))
    assert document.sentences[0].pos[:3] == ("-", "-", "VBD")
    for old, new, what in (
        ("\tbank\t", "\t\t", "line 6, column 4: the word is missing"),
        ("\tbank\tNN\t", "\tbank\t", "line 6, column 12: the row has 12 columns, those above"),
        ("\t4\tbank", "\t\tbank", "line 6, column 3: the word's number is '', expected 4"),
    ):
        with pytest.raises(CorpusError, match=what):
            list(read_conll(save(columns((old, new)))))


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
@pytest.mark.parametrize("between", [" ", "\t"])
def test_ends_of_lines(tmp_path, end, between):
    path = tmp_path / "a.conll"
    text = columns(between=between, nothing="-").replace("\n", end)
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert list(read_conll(path)) == [story()]
    path.write_bytes(text.replace(f"{end}{end}", f"{end} \t {end}").encode())
    assert list(read_conll(path)) == [story()]


def test_what_is_listed_twice_counts_once(save):
    twice = (
        COLUMNS.replace("(GPE) *) 7)", "(GPE(GPE)) *) 7)")
        .replace("* (7)\ngum/news/story 2 2 is", "* (7)|(7)\ngum/news/story 2 2 is")
        .replace("(ARG0* (4\ngum/news/story 2 1 Poe", "(ARG0* (4|(4\ngum/news/story 2 1 Poe")
        .replace("*) 4)\n", "*) 4)|4)\n")
        .replace("(V*) -\ngum/news/story 2 3 the", "(V(V*)) -\ngum/news/story 2 3 the")
    )
    assert list(read_conll(save(twice))) == [story()]


def test_clusters_are_names(save):
    for name in ("7" * 5000, "007", "0"):
        text = re.sub(r"(?<![0-9])7(?=\)?(\n|\|))", name, COLUMNS)
        assert name in text
        assert list(read_conll(save(text))) == [story()]


def test_many_brackets_take_no_time(save):
    """A cell of a million brackets, items or letters is looked at once."""
    row = "x 0 0 a NN {} - - - - {} {}\n"
    for tree, entity, mention in (
        ("(A" * 10**6, "*", "-"),
        ("-", ")" * 10**6, "(1|" * 10**6),
        ("*" * 10**6, "x" * 10**6, "9" * 10**6),
    ):
        text = f"#begin document (x); part 0\n{row.format(tree, entity, mention)}\n#end document\n"
        begin = time.process_time()
        (document,) = read_conll(save(text))
        assert document.broken
        assert time.process_time() - begin < 2
    text = "#begin document (x); part 0\n" + row.format("-", "*", "-") * 200_000
    with pytest.raises(CorpusError, match="a sentence of over 4,194,304 characters"):
        list(read_conll(save(text)))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"id": "#x"}, "id '#x' cannot stand"),
        ({"id": "x\ty"}, "cannot stand"),
        ({"words": ("a\nb", "c")}, r"'a\\nb' cannot stand"),
        ({"words": (" a", "c")}, "' a' cannot stand"),
        ({"entities": (Span(0, 1, "A(B"),)}, "label 'A\\(B' cannot stand"),
        ({"tree": Tree("A*", (0, 1))}, "label 'A\\*' cannot stand"),
    ],
)
def test_what_columns_cannot_say_is_not_written(tmp_path, change, what):
    id = change.pop("id", "x")
    sentence = Sentence(**({"words": ("a", "b"), "pos": ("X", "Y")} | change))
    with pytest.raises(CorpusError, match=what):
        write_conll([Document(id, 0, None, (sentence,))], tmp_path / "a.conll")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (gzip.compress(COLUMNS.encode(), mtime=0)[:-200], "cannot be read"),
        (b"no gzip", "cannot be read"),
        (gzip.compress(b"#begin document (x); part 0\n\xff", mtime=0), "not UTF-8"),
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


@pytest.mark.slow
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


@pytest.mark.parametrize("name", ["gum", pytest.param("ewt", marks=pytest.mark.slow)])
def test_real_corpora_round_trip(corpus, name, tmp_path):
    _, documents = corpus(name)
    some = documents[::10]
    write_conll(some, tmp_path / "a.conll")
    assert list(read_conll(tmp_path / "a.conll")) == some


PIECES = [b"(", b")", b"|", b"*", b"-", b"\t", b" ", b"\n", b"\r", b"#", b"#end document\n",
          b"\xff", b"\0", b"\xc2\xa0", "\u2028".encode(), b"9" * 5000, b"(A" * 300]  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_mutants_are_read_or_refused_in_one_line(tmp_path, seed):
    """What is read of a damaged file can be written, and reads the same again."""
    random = Random(seed)
    source = (COLUMNS if seed % 2 else columns()).encode()
    path, again = tmp_path / "a.conll", tmp_path / "b.conll"
    read = 0
    for _ in range(60):
        data = bytearray(source)
        for _ in range(random.choice((1, 1, 3, 9))):
            at = random.randrange(len(data))
            match random.randrange(3):
                case 0:
                    data[at] = random.randrange(256)
                case 1:
                    data[at:at] = random.choice(PIECES)
                case 2:
                    del data[at : at + random.choice((1, 1, 9))]
        path.write_bytes(data)
        documents, refused = [], ""
        try:
            documents = list(read_conll(path))
        except CorpusError as error:
            refused = str(error)
        assert "\n" not in refused
        assert len(refused) < 300 + len(str(path))
        read += not refused
        assert all("\n" not in reason for d in documents for reason in d.broken.values())
        write_conll(documents, again)
        assert list(read_conll(again)) == [replace(d, broken={}) for d in documents]
    assert 0 < read < 60
