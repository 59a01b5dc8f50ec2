import copy
import json
import re
from dataclasses import replace

import pytest

from corpora.hub_records import fits, record
from corpora.story import story
from jaxtask.corpora import read_conll, read_documents, read_hub, write_conll
from jaxtask.corpora.hub import ENTITY_TAGS, POS_TAGS
from jaxtask.errors import CorpusError

VERSIONS = ("english_v4", "english_v12")


def save(path, records):
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


def test_tables_of_classes():
    assert {v: len(tags) for v, tags in POS_TAGS.items()} == {"english_v4": 49, "english_v12": 51}
    assert (POS_TAGS["english_v4"].index("VB"), POS_TAGS["english_v12"].index("VB")) == (39, 40)
    assert (POS_TAGS["english_v4"].index("WRB"), POS_TAGS["english_v12"].index("WRB")) == (48, 50)
    assert len(ENTITY_TAGS) == 37
    assert ENTITY_TAGS[:4] == ("O", "B-PERSON", "I-PERSON", "B-NORP")
    assert ENTITY_TAGS[-1] == "I-LANGUAGE"


@pytest.mark.parametrize("version", VERSIONS)
def test_every_layer(tmp_path, version):
    path = save(tmp_path / "a.jsonl", [record(story(), version)])
    assert list(read_hub(path, version)) == [story()]
    assert list(read_documents(tmp_path, version)) == [story()]


def test_two_parts_in_one_record_keep_their_clusters_apart(tmp_path):
    one, two = record(story(), "english_v12"), record(story(part=3), "english_v12")
    one["sentences"] += two["sentences"]
    path = save(tmp_path / "a.jsonl", [one])
    assert list(read_hub(path)) == [story(), story(part=3)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gum", "ewt"])
@pytest.mark.parametrize("version", VERSIONS)
def test_both_readers_agree_on_real_documents(corpus, name, version, tmp_path):
    documents = [d for d in corpus(name)[1] if fits(d, version)][::12]
    assert len(documents) >= 3
    write_conll(documents, tmp_path / "a.conll")
    path = save(tmp_path / "a.jsonl", [record(d, version) for d in documents])
    assert list(read_hub(path, version)) == list(read_conll(tmp_path / "a.conll")) == documents


def test_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install pyarrow")
    from pyarrow import parquet

    records = [record(story(part=n), "english_v12") for n in range(40)]
    parquet.write_table(pa.Table.from_pylist(records), tmp_path / "a.parquet")
    assert list(read_documents(tmp_path)) == [story(part=n) for n in range(40)]
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(CorpusError, match=r"a\.parquet, after record 0: cannot be read"):
        list(read_documents(tmp_path))


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"")
    with pytest.raises(CorpusError, match=r"a\.parquet: Parquet needs pyarrow"):
        list(read_documents(tmp_path))


DEEP = "(S " * 250 + "(NNP Mary)" + ")" * 250


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda r, s: s.pop("words"), "the key 'words' is missing"),
        (lambda r, s: r.pop("sentences"), "the key 'sentences' is missing"),
        (lambda r, s: r.pop("document_id"), "the key 'document_id' is missing"),
        (lambda r, s: s.pop("part_id"), "the key 'part_id' is missing"),
        (lambda r, s: r.update(document_id=7), "document_id is 7, expected text"),
        (lambda r, s: r.update(document_id=["x"]), "document_id is "),
        (lambda r, s: r.update(document_id=""), "document_id is '', expected text"),
        (lambda r, s: r.update(sentences={"a": 1}), "sentences is {'a': 1}, expected a list"),
        (lambda r, s: r["sentences"].append(None), "sentences holds None, expected objects"),
        (lambda r, s: s.update(part_id="x"), "part_id is 'x', expected a number"),
        (lambda r, s: s.update(part_id=1.5), "part_id is 1.5, expected a number"),
        (lambda r, s: s.update(part_id=True), "part_id is True, expected a number"),
        (lambda r, s: s.update(part_id=10**300), "part_id is 1000.*…, expected a number"),
        (lambda r, s: s["pos_tags"].append(3), "10 words but 11 pos_tags"),
        (lambda r, s: s["pos_tags"].__setitem__(0, 51), "pos_tags holds 51"),
        (lambda r, s: s["pos_tags"].__setitem__(0, 1.0), "pos_tags holds 1.0"),
        (lambda r, s: s["pos_tags"].__setitem__(0, "q" * 999), "pos_tags holds 'qqq"),
        (lambda r, s: s["pos_tags"].__setitem__(2, 3), "parse_tree says 'VBD'; is this english_v4"),
        (lambda r, s: s.update(pos_tags=None), "pos_tags is None, expected a list"),
        (lambda r, s: s.update(words=None), "words is None, expected a list"),
        (lambda r, s: s.update(words="a b"), "words is 'a b', expected a list"),
        (lambda r, s: s["words"].__setitem__(3, 5), "words holds 5, expected texts"),
        (lambda r, s: s["words"].__setitem__(3, ""), "words holds '', expected texts"),
        (lambda r, s: s["words"].__setitem__(3, ["the"]), "words holds .*, expected texts"),
        (lambda r, s: s.update(words=[], pos_tags=[]), "a sentence has no words"),
        (lambda r, s: s.update(speaker=3), "speaker is 3, expected text"),
    ],
)
def test_damage_is_an_error(tmp_path, change, what):
    good = record(story(), "english_v12")
    bad = copy.deepcopy(good)
    change(bad, bad["sentences"][0])
    path = save(tmp_path / "a.jsonl", [good, bad])
    with pytest.raises(CorpusError, match=what) as error:
        list(read_hub(path))
    assert f"{path}, record 2" in str(error.value)
    assert len(str(error.value)) < 250 + len(str(path))


@pytest.mark.parametrize(
    ("change", "layer", "what"),
    [
        (lambda s: s["named_entities"].__setitem__(0, 2), "entities", "continues nothing"),
        (lambda s: s["named_entities"].pop(), "entities", "10 words but 9 named_entities"),
        (lambda s: s["named_entities"].__setitem__(0, "B-"), "entities", "holds 'B-'"),
        (lambda s: s["named_entities"].__setitem__(0, [1]), "entities", "named_entities holds"),
        (lambda s: s.pop("named_entities"), "entities", "'named_entities' is missing"),
        (lambda s: s["srl_frames"][0]["frames"].__setitem__(2, "O"), "predicates", "0 spans V"),
        (lambda s: s["srl_frames"][0]["frames"].__setitem__(2, "V"), "predicates", "the tag 'V'"),
        (lambda s: s["srl_frames"][0]["frames"].__setitem__(2, 4), "predicates", "the tag 4"),
        (lambda s: s["srl_frames"][0]["frames"].pop(), "predicates", "10 words but 9 srl_frames"),
        (lambda s: s["srl_frames"][0].pop("frames"), "predicates", "'frames' is missing"),
        (lambda s: s["srl_frames"].append(1), "predicates", "srl_frames holds 1, expected objects"),
        (lambda s: s.update(srl_frames=None), "predicates", "srl_frames is None, expected a list"),
        (lambda s: s["predicate_lemmas"].pop(), "predicates", "10 words but 9 predicate_lemmas"),
        (lambda s: s["word_senses"].__setitem__(0, {}), "predicates", "word_senses holds {}"),
        (lambda s: s["coref_spans"].append([1, 9, 10]), "chains", "lies outside its sen"),
        (lambda s: s["coref_spans"].append([1, 2, 1]), "chains", "lies outside its sentence"),
        (lambda s: s["coref_spans"].append([1, -1, 1]), "chains", "lies outside its sentence"),
        (lambda s: s["coref_spans"].append([1, 0.0, 1]), "chains", "expected .cluster, first"),
        (lambda s: s["coref_spans"].append([[1], 0, 1]), "chains", "expected .cluster, first"),
        (lambda s: s["coref_spans"].append([1, "0", 1]), "chains", "expected .cluster, first"),
        (lambda s: s["coref_spans"].append([1, 0]), "chains", "expected .cluster, first"),
        (lambda s: s.update(coref_spans={}), "chains", "coref_spans is {}, expected a list"),
        (lambda s: s.update(parse_tree="(S (NN a))"), "parse",
         "parse_tree has .a... where words has .Mary"),
        (lambda s: s.update(parse_tree="(TOP (S (NP (NNP Mary) (NNP Poe)"), "parse", "balanced"),
        (lambda s: s.update(parse_tree=DEEP), "parse", "over 200 levels"),
        (lambda s: s.update(parse_tree=["S"]), "parse", "parse_tree is .*, expected text or null"),
        (lambda s: s.update(parse_tree=s["parse_tree"].replace("(NNP Poe)", "(X) (NNP Poe)")),
         "parse", "the constituent 'X' of a parse tree is empty"),
        (lambda s: s.pop("parse_tree"), "parse", "'parse_tree' is missing"),
    ],
)  # fmt: skip
def test_a_broken_layer_is_absent_and_the_rest_is_there(tmp_path, change, layer, what):
    good = record(story(), "english_v12")
    bad = copy.deepcopy(good)
    change(bad["sentences"][0])
    bad["document_id"] = "gum/news/other"
    path = save(tmp_path / "a.jsonl", [good, bad])
    whole, document = read_hub(path)
    assert whole == story()
    first, *rest = story().sentences
    for key, name in (("predicate_lemmas", "lemmas"), ("word_senses", "senses")):
        if f" {key}" in document.broken[layer]:
            first = replace(first, **{name: ()})
    expected = story(id="gum/news/other", sentences=(first, *rest), broken=document.broken)
    assert document == expected
    assert list(document.broken) == [layer]
    assert f"{path}, record 2, sentence 1: " in document.broken[layer]
    assert re.search(what, document.broken[layer])
    assert len(document.broken[layer]) < 200 + len(str(path))


def test_a_mention_that_is_listed_twice_counts_once(tmp_path):
    given = record(story(), "english_v12")
    for sentence in given["sentences"]:
        sentence["coref_spans"] *= 2
    assert list(read_hub(save(tmp_path / "a.jsonl", [given]))) == [story()]


def test_other_version_and_no_json(tmp_path):
    path = save(tmp_path / "a.jsonl", [record(story(), "english_v4")])
    with pytest.raises(CorpusError, match=r"record 1: .*is this english_v4"):
        list(read_hub(path))
    with pytest.raises(CorpusError, match="unknown version 'v5'"):
        list(read_hub(path, "v5"))
    path.write_text('\n{"a"\n')
    with pytest.raises(CorpusError, match="record 2: is not valid JSON"):
        list(read_hub(path))
    path.write_text("[]\n")
    with pytest.raises(CorpusError, match="record 1: expected an object"):
        list(read_hub(path))
