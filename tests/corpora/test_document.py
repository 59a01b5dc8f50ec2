import pytest

from corpora.story import story
from jaxtask.corpora import Document, Mention, Predicate, Sentence, Span, Tree
from jaxtask.corpora.document import genre_of
from jaxtask.corpora.tree import parse_bits, read_bracketed
from jaxtask.errors import CorpusError

WORDS = ("a", "b", "c")
POS = ("X", "Y", "Z")


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"words": (), "pos": ()}, "no words"),
        ({"pos": ("X",)}, "3 words has 1 pos"),
        ({"lemmas": ("x",)}, "3 words has 1 lemmas"),
        ({"entities": (Span(1, 4, "ORG"),)}, "lies outside its sentence of 3 words"),
        ({"entities": (Span(2, 2, "ORG"),)}, "lies outside"),
        ({"predicates": (Predicate(0, (Span(-1, 1, "V"),)),)}, "lies outside"),
        ({"predicates": (Predicate(0, (Span(1, 2, "V"),)),)}, "no span V there"),
        ({"tree": Tree("S", (0, Tree("NP", (1,))))}, "does not yield the 3 words"),
        ({"tree": Tree("S", (0, 2, 1))}, "does not yield"),
    ],
)
def test_what_a_sentence_refuses(fields, what):
    Sentence(WORDS, POS)
    with pytest.raises(CorpusError, match=what):
        Sentence(**{"words": WORDS, "pos": POS, **fields})


@pytest.mark.parametrize("mention", [Mention(1, 0, 1), Mention(0, 2, 4), Mention(0, 1, 1)])
def test_what_a_document_refuses(mention):
    sentence = Sentence(WORDS, POS)
    Document("x", 0, None, (sentence,), ((Mention(0, 2, 3),),))
    with pytest.raises(CorpusError, match="lies outside its document of 1 sentences"):
        Document("x", 0, None, (sentence,), ((mention,),))


def test_chains_have_one_order():
    chains = story().chains
    assert story(chains=tuple(tuple(reversed(c)) for c in reversed(chains))) == story()


def test_window():
    part = story().window(2, 5)
    assert [s.words[0] for s in part.sentences] == ["Because", "In", "Her"]
    assert part.chains == (
        (Mention(0, 1, 2), Mention(0, 5, 8), Mention(2, 0, 1)),
        (Mention(0, 3, 4), Mention(0, 10, 11)),
        (Mention(0, 8, 9),),
    )
    assert story().window(0, 6) == story()
    assert story().window(3, 4).chains == ()


def test_layers():
    document = story(summary="Mary returns a bank.")
    layers = ("parse", "entities", "predicates", "chains", "genre", "summary")
    assert all(document.has(layer) for layer in layers)
    bare = Document("x", 0, None, (Sentence(WORDS, POS),), ((Mention(0, 0, 1),),))
    assert not any(bare.has(layer) for layer in layers)


@pytest.mark.parametrize("layer", ["parse", "entities", "predicates", "chains"])
def test_broken_layers_are_absent(layer):
    layers = ("parse", "entities", "predicates", "chains", "genre")
    document = story(broken={layer: "a.conll, line 1: no"})
    assert [n for n in layers if not document.has(n)] == [layer]
    assert [n for n in layers if not document.window(0, 3).has(n)] == [layer]
    whole = story()
    for n, sentence in enumerate(document.sentences):
        assert (sentence.tree is None) == (layer == "parse")
        assert sentence.entities == (() if layer == "entities" else whole.sentences[n].entities)
        assert sentence.predicates == (
            () if layer == "predicates" else whole.sentences[n].predicates
        )
    assert document.chains == (() if layer == "chains" else whole.chains)
    assert hash(document) != hash(whole)


def test_a_mention_that_is_listed_twice_counts_once():
    chains = story().chains
    assert story(chains=tuple(c + c[:1] for c in chains)) == story()
    assert not story(chains=(chains[0][:1] * 2,)).has("chains")


@pytest.mark.parametrize(
    ("id", "genre"),
    [
        ("nw/wsj/00/wsj_0001", "nw"),
        ("bc/cctv", "bc"),
        ("gum/news/GUM_news_x", "news"),
        ("ewt/email/00/x", "email"),
        ("a/b", None),
        ("x", None),
    ],
)
def test_genre_of(id, genre):
    assert genre_of(id) == genre


def test_trees_in_columns():
    for sentence in story().sentences:
        size = len(sentence.words)
        assert "".join(parse_bits(sentence.tree, size)).count("*") == size
    assert parse_bits(story().sentences[5].tree, 3) == ["(TOP(S(NP*)", "(VP*)", "*))"]


@pytest.mark.parametrize(
    "text",
    [
        "(S (A a) (B :)) (C -LRB-))",
        "(S(A a)(B :))(C ())",
        " (S  (A a)  (B :)) \n (C () ) ",
    ],
)
def test_trees_on_a_line(text):
    for bracket in ("(", "-LRB-"):
        words = ("a", ":)", bracket)
        assert read_bracketed(text, words) == (Tree("S", (0, 1, 2)), ["A", "B", "C"])


def test_escaped_full_stops():
    assert read_bracketed("(S (A a) (. /.))", ("a", ".")) == (Tree("S", (0, 1)), ["A", "."])


def test_only_ascii_spaces_separate_leaves():
    for word in ("a\u00a0b", "\u3000", "\u2028c", "d\u0085"):
        assert read_bracketed(f"(S (A {word}))", (word,)) == (Tree("S", (0,)), ["A"])


def test_depth_of_trees():
    tree = Tree("S", (0,))
    for depth in range(2, 201):
        tree = Tree("S", (tree,))
        assert tree.depth == depth
    assert Sentence(("a",), ("X",), tree).tree == tree
    assert len(list(tree.constituents())) == 200
    with pytest.raises(CorpusError, match="over 200 levels"):
        Tree("S", (tree,))
    with pytest.raises(CorpusError, match="'S' of a parse tree is empty"):
        Tree("S", ())


def test_nested_and_nameless_trees():
    tree, pos = read_bracketed("( (S (NP (PRP It)) (VP (VBZ is))))", ("It", "is"))
    assert tree == Tree("", (Tree("S", (Tree("NP", (0,)), Tree("VP", (1,)))),))
    assert pos == ["PRP", "VBZ"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("(S (A a)", "balanced"),
        ("(S (A a)))", "no more words"),
        ("(A a)", "balanced"),
        ("", "balanced"),
        ("(S (A a b))", "'b\\)\\)' where words has 'a'|'a b"),
        ("S", "'S' where words has 'a'"),
        ("(S (A a)) (B)", "the constituent 'B' of a parse tree is empty"),
        ("(S (A a) (B b))", "no more words"),
        ("(S (A b))", "'b\\)\\)' where words has 'a'"),
        ("(S (NP))", "the constituent 'NP' of a parse tree is empty"),
        ("(" * 9999, "over 200 levels"),
        ("(S " * 201 + "(A a)" + ")" * 201, "over 200 levels"),
    ],
)
def test_trees_that_are_none(text, what):
    with pytest.raises(CorpusError, match=what):
        read_bracketed(text, ("a",))
