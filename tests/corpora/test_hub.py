import copy
import json

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


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda r, s: s.pop("words"), "the key 'words' is missing"),
        (lambda r, s: r.pop("sentences"), "the key 'sentences' is missing"),
        (lambda r, s: s["pos_tags"].append(3), "10 words but 11 pos_tags"),
        (lambda r, s: s["pos_tags"].__setitem__(0, 51), "pos_tags holds 51"),
        (lambda r, s: s["pos_tags"].__setitem__(2, 3), "parse_tree says 'VBD'; is this english_v4"),
        (lambda r, s: s["named_entities"].__setitem__(0, 2), "'I-PERSON' continues nothing"),
        (lambda r, s: s["named_entities"].pop(), "9 named_entities"),
        (lambda r, s: s["srl_frames"][0]["frames"].__setitem__(2, "O"), "0 spans V"),
        (lambda r, s: s["srl_frames"][0]["frames"].__setitem__(2, "V"), "found the tag 'V'"),
        (lambda r, s: s["coref_spans"].append([1, 9, 10]), "lies outside its document"),
        (
            lambda r, s: s.__setitem__("parse_tree", "(S (NN a))"),
            "parse_tree has .a... where words has .Mary",
        ),
        (lambda r, s: s.__setitem__("parse_tree", "(TOP (S (NP (NNP Mary) (NNP Poe)"), "balanced"),
        (lambda r, s: s["words"].__setitem__(0, "Jane"), "'Mary.*' where words has 'Jane'"),
        (lambda r, s: s.__setitem__("words", None), "NoneType"),
        (lambda r, s: s.__setitem__("words", "Mary"), "words: found 'Mary', expected a list"),
        (lambda r, s: s["words"].__setitem__(0, 7), r"words: found \[7, .*, expected a list of te"),
        (lambda r, s: r.__setitem__("document_id", 7), "document_id: found 7, expected a text"),
        (lambda r, s: s.__setitem__("speaker", [1]), r"speaker: found \[1\], expected a text"),
        (lambda r, s: s.__setitem__("part_id", float("inf")), "infinity"),
        (lambda r, s: s.__setitem__("part_id", "x" * 3000), "invalid literal"),
        (lambda r, s: s["pos_tags"].__setitem__(0, "x" * 3000), "pos_tags holds 'xxx"),
        (lambda r, s: s["predicate_lemmas"].__setitem__(0, {}), "found {}, expected a text or"),
        (lambda r, s: s["srl_frames"][0].__setitem__("frames", [1]), r"frames: found \[1\]"),
        (lambda r, s: s["coref_spans"].append([1, "0", 0]), "expected .cluster, first, last"),
    ],
)
def test_what_does_not_fit(tmp_path, change, what):
    good = record(story(), "english_v12")
    bad = copy.deepcopy(good)
    change(bad, bad["sentences"][0])
    path = save(tmp_path / "a.jsonl", [good, bad])
    with pytest.raises(CorpusError, match=what) as error:
        list(read_hub(path))
    assert f"{path}, record 2" in str(error.value)


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
