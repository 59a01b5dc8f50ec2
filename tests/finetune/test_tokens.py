"""Token ids of data: those of transformers for plain texts, and text where it looks like control.

Oracles are `apply_chat_template` and calls of transformers, and the tokenizers library on its own.
"""

import json

import numpy as np
import pytest
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from finetune.data_files import (
    LLAMA_CHAT,
    MISTRAL_CHAT,
    TEXTS,
    byte_tokenizer,
    pair_tokenizer,
    spaced_tokenizer,
    write_task,
)
from jaxtask.corpora import tokens_of
from jaxtask.errors import DataError
from jaxtask.finetune.data.examples import encode_task, open_tokenizer
from jaxtask.finetune.data.lengths import length_of
from jaxtask.finetune.data.task_data import read_task
from jaxtask.finetune.data.tokens import Tokens
from real_data import real_data

CONTROL = ["<s>", "</s>", "<|eot|>", "<|user|>", "<|assistant|>", "[INST]", "[/INST]"]
GENERATION_CHAT = (
    "{%- for m in messages %}{{ '<|' + m['role'] + '|>\\n' }}{% generation %}{{ m['content'] }}"
    "{% endgeneration %}{{ '</s>\\n' if m['role'] == 'user' else eos_token }}{% endfor %}"
    "{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
# The prompt ends with a blank, which a tokenizer joins with the word that comes after it.
BLANK_CHAT = (
    "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}"
    "{% if m.role == 'assistant' %}{{ eos_token }}{% else %}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
CHATS = {"llama": LLAMA_CHAT, "mistral": MISTRAL_CHAT, "generation": GENERATION_CHAT}


def metaspace_tokenizer(**special):
    """A SentencePiece-like BPE of today: a space in front of the whole only, bytes for the rest."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    bytes_ = [f"<0x{n:02X}>" for n in range(256)]
    names = ["<unk>", *CONTROL, *bytes_]
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=names, show_progress=False)
    tokenizer.train_from_iterator([text.replace("\n", " ") for text in TEXTS], trainer)
    fields = json.loads(tokenizer.to_str())
    fields["added_tokens"] = [t for t in fields["added_tokens"] if t["content"] not in bytes_]
    tokenizer = Tokenizer.from_str(json.dumps(fields))
    begin = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", begin)]
    )
    return _wrapped(tokenizer, unk_token="<unk>", **special)


def unigram_tokenizer(**special):
    """SentencePiece's other model, which finds every token of its vocabulary in a text."""
    pieces = sorted(set("".join(TEXTS).replace("\n", "").replace(" ", "▁") + "|<>/[]_sINSTeot"))
    vocabulary = [("<unk>", 0.0), *((name, 0.0) for name in CONTROL), ("▁The", -3.0)]
    vocabulary += [("▁", -6.0), *((p, -8.0) for p in pieces if p != "▁")]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in CONTROL])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return _wrapped(tokenizer, unk_token="<unk>", **special)


def word_tokenizer(**special):
    """Whole words, so that control tokens are words of the vocabulary."""
    words = ["[UNK]", *CONTROL, "The", "cat", "sat", "on", "the", "mat.", "It", "ran", "home."]
    tokenizer = Tokenizer(
        models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(CONTROL)
    return _wrapped(tokenizer, unk_token="[UNK]", **special)


def loose_tokenizer(**special):
    """Markers that are added, but not as special tokens, with spaces around that they swallow."""
    tokenizer = byte_tokenizer()
    marks = [AddedToken(f"<|{n}|>", lstrip=True, rstrip=True) for n in ("system", "end")]
    tokenizer.add_tokens(marks)
    return _wrapped(tokenizer.backend_tokenizer, **special)


def _wrapped(tokenizer, **special):
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{"bos_token": "<s>", "eos_token": "</s>", **special}
    )


MAKERS = {
    "byte": byte_tokenizer,
    "prepend": spaced_tokenizer,
    "metaspace": metaspace_tokenizer,
    "unigram": unigram_tokenizer,
    "word": word_tokenizer,
    "loose": loose_tokenizer,
}
PLAIN = [
    ("keep all.", "The cat sat on the mat. It ran home.", "The cat sat on the mat."),
    ("Keep.", "To be\nor  not", " leading and trailing "),
    ("Say \u00e9.", "\tA dog", "\nline\n\nbreaks"),
    ("", "What is\nit? ", "A dog."),
]


def encoded(tmp_path, tokenizer, rows, **options):
    rows = [dict(zip(("instruction", "text", "target"), row, strict=True)) for row in rows]
    task = read_task(write_task(tmp_path / "t", rows))
    options = {"max_len": 10_000, "vocabulary": 100_000, **options}
    return encode_task(task, tokenizer, **options)


def conversation(example):
    line = example.line
    begin = "" if line.instruction[:1].isupper() else "In the following document, "
    heading = f"{begin}{line.instruction} ### Document: " if line.instruction else ""
    asked = {"role": "user", "content": heading + line.text}
    return [asked, {"role": "assistant", "content": line.target}]


def theirs(tokenizer, messages, **options):
    return tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **options)


def until(ids, end):
    """What there is of an answer after a cut at its end."""
    return [*(ids[: ids.index(end)] if end in ids else ids), end]


@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("kind", MAKERS)
def test_conversations_are_those_of_transformers(tmp_path, kind, chat):
    tokenizer = MAKERS[kind](chat_template=CHATS[chat])
    for example in encoded(tmp_path, tokenizer, PLAIN).splits["train"]:
        messages, ids = conversation(example), example.tokens.tolist()
        start = theirs(tokenizer, messages[:1], add_generation_prompt=True)
        whole = theirs(tokenizer, messages)
        assert ids[: example.prompt] == start
        learned = until(whole[len(start) :], tokenizer.eos_token_id)
        if whole[: len(start)] == start:  # else a token reaches over the cut
            assert ids[example.prompt :] == learned


@pytest.mark.parametrize("kind", MAKERS)
def test_plain_texts_are_those_of_transformers(tmp_path, kind):
    tokenizer = MAKERS[kind]()
    end = tokenizer.eos_token_id
    for example in encoded(tmp_path, tokenizer, PLAIN).splits["train"]:
        asked, told = (message["content"] for message in conversation(example))
        ids = example.tokens.tolist()
        whole = tokenizer(f"{asked}\n{told}")["input_ids"]
        assert ids[-1] == end
        start = tokenizer(f"{asked}\n")["input_ids"]
        start = start[:-1] if start[-1] == end else start
        assert ids[: example.prompt] == start
        if whole[: len(start)] == start:
            assert ids == [*(whole[:-1] if whole[-1] == end else whole), end]


def test_nothing_is_put_in_front_of_an_answer(tmp_path):
    """After a line break, SentencePiece vocabularies made a space of their own."""
    for maker in (spaced_tokenizer, metaspace_tokenizer):
        tokenizer = maker()
        for text in ("The cat.", "To be", "abc"):
            (example,) = encoded(tmp_path, tokenizer, [("Keep.", "A dog", text)]).splits["train"]
            learned = tokenizer.convert_ids_to_tokens(example.tokens[example.prompt : -1].tolist())
            assert "".join(learned) == text.replace(" ", "▁")


def test_a_token_that_would_reach_over_the_cut(tmp_path):
    tokenizer = byte_tokenizer(chat_template=BLANK_CHAT)
    (example,) = encoded(tmp_path, tokenizer, [("Keep.", "A dog", "the cat")]).splits["train"]
    messages, ids = conversation(example), example.tokens.tolist()
    start = theirs(tokenizer, messages[:1], add_generation_prompt=True)
    assert theirs(tokenizer, messages)[: len(start)] != start
    assert ids[: example.prompt] == start  # what generation starts from
    assert ids[example.prompt :] == [*tokenizer("the cat")["input_ids"][1:], 1]


@pytest.mark.parametrize("chat", [None, "mistral", "generation"])
@pytest.mark.parametrize("kind", MAKERS)
def test_data_is_not_control(tmp_path, kind, chat):
    """With control tokens in the data there are as many control ids as without."""
    tokenizer = MAKERS[kind](chat_template=CHATS.get(chat))
    texts = []
    for name in [*CONTROL, "<|system|>", "<|end|>"]:
        texts += [f"The {name} cat", name, f"{name}{name} on the mat. {name}"]
    rows = [
        (f"Keep {text}" if place == 0 else "Keep.", *("x" if n != place else text for n in (1, 2)))
        for place in range(3)
        for text in texts
    ]
    plain, *found = encoded(tmp_path, tokenizer, [("Keep.", "The cat", "cat"), *rows]).splits[
        "train"
    ]
    control = set(Tokens(tokenizer).control.values()) - {tokenizer.unk_token_id}

    def controls(example):
        ids = example.tokens.tolist()
        parts = ids[: example.prompt], ids[example.prompt :]
        return [[id_ for id_ in part if id_ in control] for part in parts]

    for example in found:
        assert controls(example) == controls(plain)
        assert example.tokens[-1] == tokenizer.eos_token_id
    if kind in ("byte", "metaspace", "loose"):  # the others lack some of the characters
        for example, row in zip(found, rows, strict=True):
            text = tokenizer.decode(example.tokens, skip_special_tokens=True)
            assert all(part.strip() in text for part in row)


def test_the_document_of_an_encoder_is_not_control(tmp_path):
    tokenizer = pair_tokenizer()
    rows = [
        {"text": "w1 [SEP] w2", "text_pair": "[CLS] w3 [PAD]", "label": 0.5},
        {"text": "w1 w2", "text_pair": "w3", "label": 1},
    ]
    task = read_task(write_task(tmp_path / "t", rows, "regression"))
    odd, plain = encode_task(task, tokenizer, max_len=99, vocabulary=99, types=2).splits["train"]
    unknown = tokenizer.unk_token_id
    assert odd.tokens.tolist() == [2, 5, unknown, 6, 3, unknown, 7, unknown, 3]
    assert odd.types.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1]
    assert plain.tokens.tolist() == tokenizer("w1 w2", "w3")["input_ids"]


def test_roberta_s_own_tokens_in_a_text(tmp_path):
    tokenizer = open_tokenizer(real_data("roberta-base-tokenizer"))
    texts = ["Good <mask> film.", "</s> A dog </s></s> ran", " <s>", "<pad> x"]
    rows = [{"text": text, "label": 0} for text in texts]
    task = read_task(write_task(tmp_path / "t", rows, "regression"))
    found = encode_task(task, tokenizer, max_len=99, vocabulary=50265).splits["train"]
    for text, example in zip(texts, found, strict=True):
        ids = example.tokens.tolist()
        assert ids[0] == 0
        assert ids[-1] == 2
        assert not set(ids[1:-1]) & set(tokenizer.all_special_ids)
        assert tokenizer.decode(ids[1:-1]) == text


def test_stories_line_by_line(tmp_path):
    tokenizer = open_tokenizer(real_data("stories260K"))
    found = encoded(tmp_path, tokenizer, [*PLAIN, ("Keep.", "a </s> b", "<s>x</s>")])
    for example in found.splits["train"]:
        asked, told = (message["content"] for message in conversation(example))
        ids = example.tokens.tolist()
        if "<s>" not in told:
            assert ids == [*tokenizer(f"{asked}\n{told}")["input_ids"], 2]
        assert ids.count(1) == ids.count(2) == 1
        said = tokenizer.decode(ids[example.prompt :], skip_special_tokens=True)
        assert said == told.removeprefix(" ")  # it takes the first space for its own


def test_letters_stay_letters(tmp_path):
    """Some tokenizers pad with a letter of their vocabulary."""
    tokenizer = byte_tokenizer(pad_token="!")
    (example,) = encoded(tmp_path, tokenizer, [("Keep.", "Oh!", "Yes!")]).splits["train"]
    assert tokenizer.decode(example.tokens, skip_special_tokens=False).endswith("Yes!</s>")


def test_generation_ends_at_true_ends_only():
    tokens = Tokens(byte_tokenizer(eos="<|eot|>"))
    letter = tokens.tokenizer.convert_tokens_to_ids("a")
    assert tokens.ends(()) == (2,)
    assert tokens.ends((1, letter, 10**9, -1)) == (1, 2)  # </s> as well, an ordinary letter not


@pytest.mark.parametrize(
    "cls", ["LlamaTokenizer", "LlamaTokenizerFast", "BertTokenizer", "T5Tokenizer", None]
)
@pytest.mark.parametrize("kind", ["byte", "prepend", "metaspace"])
def test_the_file_counts_and_not_the_class(tmp_path, kind, cls):
    tokenizer = MAKERS[kind]()
    tokenizer.save_pretrained(tmp_path)
    file, config = tmp_path / "tokenizer.json", tmp_path / "tokenizer_config.json"
    fields = json.loads(config.read_text())
    fields = {k: v for k, v in fields.items() if k != "tokenizer_class"}
    if cls:
        fields["tokenizer_class"] = cls
    config.write_text(json.dumps(fields))
    known = Tokenizer.from_file(str(file))
    found = open_tokenizer(tmp_path)
    for text in [*TEXTS, "  two\n\n spaces ", "x</s>y", "<s>", "¿qué? 日本"]:
        for special in (True, False):
            ids = known.encode(text, add_special_tokens=special).ids
            assert found(text, add_special_tokens=special)["input_ids"] == ids
    assert (found.bos_token, found.eos_token) == ("<s>", "</s>")


def test_a_tokenizer_cuts_and_pads_only_when_asked(tmp_path):
    tokenizer = pair_tokenizer()
    tokenizer.backend_tokenizer.enable_truncation(4)
    tokenizer.backend_tokenizer.enable_padding(length=30)
    rows = [{"text": "w1 w2 w3 w4 w5 w6", "label": 1}]
    task = read_task(write_task(tmp_path / "t", rows, "regression"))
    (example,) = encode_task(task, tokenizer, max_len=99, vocabulary=99).splits["train"]
    assert len(example.tokens) == 8


def test_an_id_that_the_model_has_not(tmp_path):
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["kitten"])  # beyond what a base model was made for
    size = len(tokenizer) - 1
    with pytest.raises(
        DataError,
        match=rf"^task t: .*train.jsonl, line 2: .* the id {size} \('kitten'\), .* {size} t",
    ):
        encoded(tmp_path, tokenizer, [PLAIN[0], ("Keep.", "a kitten", "x")], vocabulary=size)
    # Tokens that no example has do no harm.
    assert encoded(tmp_path, tokenizer, PLAIN[:1], vocabulary=size).splits["train"]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('Only\nuser roles') }}", "TemplateError: Only user roles"),
        ("{% if %}", "TemplateSyntaxError"),
        ("{{ messages[7].content }}", "UndefinedError"),
        ("{{ 1 // 0 }}", "ZeroDivisionError"),
        ("{{ messages + 'a' }}", "TypeError"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "SecurityError"),
        ("{% include 'x' %}", "TypeError"),
        ("{{ 'a' * 10**7 }}", "it writes over"),
        ("{{ 'a' * 10**12 }}", "MemoryError"),
        ("{% set x = namespace(v='a') %}"
         "{% for i in range(99) %}{% set x.v = x.v ~ x.v %}{% endfor %}", "Error"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
         "TimeoutError: it has not ended"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
    ],
)  # fmt: skip
def test_templates_that_fail(tmp_path, template, said):
    tokenizer = byte_tokenizer(chat_template=template)
    with pytest.raises(DataError, match=r"^task t: \S+train.jsonl, line 1: the chat temp") as found:
        encoded(tmp_path, tokenizer, PLAIN[:1])
    assert said in str(found.value)
    assert "\n" not in str(found.value)


def test_templates_that_fail_on_one_example(tmp_path):
    template = "{% if 'bad' in messages[0].content %}{{ raise_exception('no') }}{% endif %}x"
    rows = [PLAIN[0], ("Keep.", "a bad dog", "x")]
    with pytest.raises(DataError, match=r"line 2: the chat template of .* rendered: .*: no"):
        encoded(tmp_path, byte_tokenizer(chat_template=template), rows)


def test_a_template_that_is_no_text():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = 7
    with pytest.raises(DataError, match="chat_template is a int, expected text"):
        Tokens(tokenizer)
    tokenizer.chat_template = {"default": "x", "tools": "y"}
    assert Tokens(tokenizer).template == "x"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "7", "null", '{"model": 3}', '{"version": "1.0"}', "\0" * 50]
)
def test_files_that_are_no_tokenizers(tmp_path, content):
    byte_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(DataError) as found:
        open_tokenizer(tmp_path)
    assert str(tmp_path) in str(found.value)
    assert "\n" not in str(found.value)


def test_merges_that_end_the_process(tmp_path):
    """The tokenizers library cuts them by bytes: one that begins within a letter aborts."""
    spaced_tokenizer().save_pretrained(tmp_path)
    file = tmp_path / "tokenizer.json"
    fields = json.loads(file.read_text())
    fields["model"]["continuing_subword_prefix"] = "x"
    file.write_text(json.dumps(fields))
    with pytest.raises(
        DataError, match=r"the merge \[.*\] has a right part without the cont.* 'x'"
    ):
        open_tokenizer(tmp_path)
    vocabulary = fields["model"]["vocab"]
    vocabulary |= {"xa": len(vocabulary), "▁a": vocabulary.get("▁a", len(vocabulary) + 1)}
    fields["model"]["merges"] = [["▁", "xa"]]
    file.write_text(json.dumps(fields))
    assert open_tokenizer(tmp_path).tokenize("a") == ["▁a"]


@pytest.mark.parametrize(
    "change",
    [{"chat_template": 5}, {"eos_token": 5}, {"eos_token": ["a"]}, {"added_tokens_decoder": 3},
     {"tokenizer_class": 3}, {"auto_map": {"AutoTokenizer": ["x.Y", None]}}],
)  # fmt: skip
def test_settings_of_a_tokenizer_that_make_no_sense(tmp_path, change):
    """Read or refused in a line; no code of the folder is run, and nobody is asked."""
    byte_tokenizer().save_pretrained(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **change}))
    (tmp_path / "x.py").write_text("raise SystemExit('code was run')")
    try:
        tokens = Tokens(open_tokenizer(tmp_path))
    except DataError as error:
        said = str(error)
    else:
        said = ""
        assert len(tokens.encode(["a"])[0].ids) == 1
    assert "\n" not in said


def test_documents_are_cut_and_answers_are_not(tmp_path):
    long = ("Keep.", " ".join(f"w{n}" for n in range(300)), "The cat sat on the mat.")
    for chat in (None, GENERATION_CHAT):
        tokenizer = byte_tokenizer(chat_template=chat)
        whole = encoded(tmp_path, tokenizer, [PLAIN[0], long], truncate=True)
        assert whole.truncated == {"train": 0, "dev": 0}
        found = encoded(tmp_path, tokenizer, [PLAIN[0], long], max_len=200, truncate=True)
        assert found.truncated["train"] == 1
        assert found.dropped["train"] == 0
        assert found.rows()["train"] == {"used": 2, "truncated": 1, "dropped": 0}
        before, after = whole.splits["train"][1], found.splits["train"][1]
        assert 190 < len(after.tokens) <= 200
        learned = before.tokens[before.prompt :]
        np.testing.assert_array_equal(after.tokens[after.prompt :], learned)
        assert long[1].startswith(after.line.text)
        assert after.line.text
        # It is the example that a shorter document makes.
        cut = (long[0], after.line.text, long[2])
        (alone,) = encoded(tmp_path, tokenizer, [cut]).splits["train"]
        np.testing.assert_array_equal(after.tokens, alone.tokens)


def test_what_cannot_be_cut_is_dropped(tmp_path):
    long = ("Keep.", "A dog", "The cat sat on the mat. " * 30)
    tokenizer = byte_tokenizer()
    found = encoded(tmp_path, tokenizer, [PLAIN[0], long], max_len=200, truncate=True)
    assert (found.truncated["train"], found.dropped["train"]) == (0, 1)
    with pytest.raises(DataError, match=r"a larger training.max_len=N, or shorter"):
        encoded(tmp_path, tokenizer, [long], max_len=200, truncate=True)
    with pytest.raises(DataError, match=r"training.max_len=N or training.truncate=True, or short"):
        encoded(tmp_path, tokenizer, [long], max_len=200)


def test_texts_to_classify_are_cut_as_by_transformers(tmp_path):
    tokenizer = pair_tokenizer()
    words = [f"w{n}" for n in range(40)]
    rows = [
        {"text": " ".join(words), "text_pair": " ".join(words[:5]), "label": 1},
        {"text": "w1", "text_pair": "w2", "label": 2},
    ]
    task = read_task(write_task(tmp_path / "t", rows, "regression"))
    options = {"max_len": 20, "vocabulary": 99, "types": 2}
    found = encode_task(task, tokenizer, truncate=True, **options)
    assert found.truncated["train"] == 1
    expected = tokenizer(
        rows[0]["text"],
        rows[0]["text_pair"],
        truncation="longest_first",
        max_length=20,
        return_token_type_ids=True,
    )
    assert found.splits["train"][0].tokens.tolist() == expected["input_ids"]
    assert found.splits["train"][0].types.tolist() == expected["token_type_ids"]
    assert encode_task(task, tokenizer, **options).dropped["train"] == 1


def test_panics_and_remarks_are_not_printed(tmp_path, capfd):
    """The library's own words of them: a stack on standard error, and among JSON on the other."""
    byte_tokenizer().save_pretrained(tmp_path)
    file = tmp_path / "tokenizer.json"
    fields = json.loads(file.read_text())
    fields["post_processor"]["special_tokens"] = {}
    fields["added_tokens"][0]["odd"] = 1
    file.write_text(json.dumps(fields))
    with pytest.raises(DataError) as found:
        Tokens(open_tokenizer(tmp_path)).encode(["a"], special=True)
    assert "\n" not in str(found.value)
    assert capfd.readouterr() == ("", "")
    print("after", flush=True)
    assert capfd.readouterr().out == "after\n"


@pytest.mark.parametrize("chat", [None, LLAMA_CHAT])
def test_lengths_for_corpora_are_those_of_examples(tmp_path, chat):
    tokenizer = byte_tokenizer(chat_template=chat)
    ours, known = length_of(tokenizer, "t"), tokens_of(tokenizer, "t")
    assert (ours.overhead, str(ours)) == (known.overhead, str(known))
    assert [ours.count(text) for text in TEXTS] == [known.count(text) for text in TEXTS]
    assert ours.count("a </s> b") > known.count("a </s> b")  # which is text there, too
    broken = byte_tokenizer(chat_template="{{ raise_exception('no') }}")
    with pytest.raises(DataError, match=r"^there: the chat template of .*: no$"):
        length_of(broken, "there")
