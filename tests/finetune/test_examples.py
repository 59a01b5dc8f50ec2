"""From data folders to token ids: what is read, where the loss starts, what is refused."""

import hashlib
import json

import numpy as np
import pytest
from tokenizers import processors

from finetune.data_files import (
    LLAMA_CHAT,
    MISTRAL_CHAT,
    byte_tokenizer,
    pair_tokenizer,
    spaced_tokenizer,
    write_task,
)
from jaxtask.errors import DataError
from jaxtask.finetune.data.examples import decode, encode_task, open_tokenizer
from jaxtask.finetune.data.task_data import find_tasks, read_task
from real_data import real_data

LINE = {
    "instruction": "keep the first sentence.",
    "text": "The cat sat on the mat. It ran home.",
    "target": "The cat sat on the mat.",
}
PROMPT = (
    "In the following document, keep the first sentence. ### Document: "
    "The cat sat on the mat. It ran home."
)


@pytest.fixture
def task(tmp_path):
    return read_task(write_task(tmp_path / "first", [LINE]))


def encode(task, tokenizer, **options):
    options = {"max_len": 512, "vocabulary": 100_000, **options}
    return encode_task(task, tokenizer, **options)


def only(encoded):
    (example,) = encoded.splits["train"]
    return example


def parts(tokenizer, example):
    """The prompt and what is learned, as text with its special tokens."""
    ids = example.tokens.tolist()
    options = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    cut = example.prompt
    return tokenizer.decode(ids[:cut], **options), tokenizer.decode(ids[cut:], **options)


def test_a_folder_is_read(tmp_path):
    folder = write_task(tmp_path / "data" / "ner", [LINE, LINE], dev=[LINE], options={"x": 1})
    task = read_task(folder)
    assert (task.name, task.kind, task.labels) == ("ner", "text", ())
    assert [len(task.splits[s]) for s in ("train", "dev")] == [2, 1]
    first = task.splits["train"][0]
    assert (first.instruction, first.text, first.target) == tuple(LINE.values())
    assert first.source == f"{folder / 'train.jsonl'}, line 1"
    content = (folder / "train.jsonl").read_bytes()
    assert task.sha256["train.jsonl"] == hashlib.sha256(content).hexdigest()
    assert set(task.sha256) == {"task.json", "train.jsonl", "dev.jsonl"}
    (folder / "dev.jsonl").unlink()
    assert read_task(folder).splits["dev"] == ()


@pytest.mark.parametrize("name", ["bytes", "spaced"])
def test_plain_form(task, name):
    tokenizer = byte_tokenizer() if name == "bytes" else spaced_tokenizer()
    prompt, learned = parts(tokenizer, only(encode(task, tokenizer)))
    # A SentencePiece vocabulary decodes with the space that it puts in front of a text.
    space = " " if name == "spaced" else ""
    assert prompt == f"<s>{space}{PROMPT}\n"
    assert learned == f"{LINE['target']}</s>"


def test_no_token_straddles_prompt_and_target(task):
    # Without splitting into words first, this vocabulary joins the line break and what follows.
    tokenizer = byte_tokenizer(pre=False)
    whole = tokenizer(PROMPT + "\n" + LINE["target"], return_offsets_mapping=True)
    cut = len(PROMPT) + 1
    assert any(start < cut < end for start, end in whole["offset_mapping"])
    example = only(encode(task, tokenizer))
    ids = example.tokens.tolist()
    assert ids[: example.prompt] == tokenizer(PROMPT + "\n")["input_ids"]
    assert ids[example.prompt : -1] == tokenizer(LINE["target"])["input_ids"][1:]
    tokens = tokenizer.convert_ids_to_tokens(ids)
    assert "".join(tokens) == "<s>" + PROMPT + "\n" + LINE["target"] + "</s>"


def test_llama_like_chat(task):
    tokenizer = byte_tokenizer(chat_template=LLAMA_CHAT, eos="<|eot|>")
    prompt, learned = parts(tokenizer, only(encode(task, tokenizer)))
    assert prompt == f"<s><|user|>\n{PROMPT}<|eot|>\n<|assistant|>\n"
    assert learned == f"{LINE['target']}<|eot|>"
    # A base model may ship a template too: the recipe's word counts.
    prompt, learned = parts(tokenizer, only(encode(task, tokenizer, prompt="plain")))
    assert (prompt, learned) == (f"<s>{PROMPT}\n", f"{LINE['target']}<|eot|>")


def test_mistral_like_chat(task):
    tokenizer = spaced_tokenizer(chat_template=MISTRAL_CHAT)
    example = only(encode(task, tokenizer))
    tokens = tokenizer.convert_ids_to_tokens(example.tokens.tolist())
    assert tokens[:2] == ["<s>", "[INST]"]
    assert tokens[example.prompt - 1] == "[/INST]"
    # The template's space, and the one that this tokenizer puts after every added token.
    assert "".join(tokens[example.prompt :]) == "▁▁" + LINE["target"].replace(" ", "▁") + "</s>"


def test_long_examples_are_dropped_and_counted(tmp_path):
    long = {**LINE, "text": LINE["text"] * 30}
    task = read_task(write_task(tmp_path / "t", [LINE, long, LINE], dev=[long]))
    encoded = encode(task, byte_tokenizer(), max_len=200)
    assert [len(encoded.splits[s]) for s in ("train", "dev")] == [2, 0]
    assert encoded.dropped == {"train": 1, "dev": 1}
    with pytest.raises(DataError, match=r"task t: nothing is left .* all 3 .* max_len = 9"):
        encode(task, byte_tokenizer(), max_len=9)


def test_a_tokenizer_that_does_not_fit(task):
    with pytest.raises(
        DataError, match=r"line 1: .* gives the id \d+ \('.*'\), .* knows 60 tokens"
    ):
        encode(task, byte_tokenizer(), vocabulary=60)


def test_templates_that_cannot_be_used(task):
    with pytest.raises(DataError, match="no chat template"):
        encode(task, byte_tokenizer(), prompt="chat")
    fickle = "{{ messages | length }}{{ messages[-1].content }}"
    with pytest.raises(DataError, match="renders a prompt differently"):
        encode(task, byte_tokenizer(chat_template=fickle))


def test_no_end_of_text(task):
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(DataError, match="no end-of-text token"):
        encode(task, tokenizer)


@pytest.mark.parametrize(
    ("kind", "labels", "row", "said"),
    [
        ("text", None, {"text": "a", "target": "b"}, r"line 2: instruction is missing"),
        ("text", None, {**LINE, "instruction": " "}, r"line 2: instruction is ' ', expected text"),
        ("text", None, {**LINE, "instruction": None}, r"line 2: instruction is None"),
        ("text", None, {**LINE, "instruction": "", "text": ""}, r"line 2: text is '', expected"),
        ("text", None, {**LINE, "target": " "}, r"line 2: target is ' ', expected text"),
        ("text", None, "x", r"line 2: holds a str, expected a JSON object"),
        ("classification", ["a", "b"], {"text": "x", "label": "c"}, r"'c', expected one of a, b"),
        ("classification", ["a", "b"], {"text": "x"}, r"line 2: label is None, expected one of a"),
        ("classification", ["a"], {"text": "x", "label": "a"}, r"task\.json: labels is \['a'\]"),
        ("regression", None, {"text": "x", "label": "2"}, r"line 2: label is '2', expected a fin"),
        (
            "classification",
            [["a"], "b"],
            {"text": "x", "label": "a"},
            r"task\.json: labels is \[\[",
        ),
        ("classification", {"a": 1}, {"text": "x", "label": "a"}, r"task\.json: labels is \{'a'"),
        ("classification", ["1", 1], {"text": "x", "label": 1}, r"task\.json: labels is \['1', 1"),
        ("classification", ["a", None], {"text": "x", "label": "a"}, r"task\.json: labels is "),
        ("classification", ["a", "['a']"], {"text": "x", "label": ["a"]}, r"label is \['a'\], exp"),
        (
            "classification",
            ["a", "nan"],
            {"text": "x", "label": float("nan")},
            r"label is nan, exp",
        ),
        ("regression", None, {"text": "x", "label": float("nan")}, r"label is nan, expected a fin"),
        (
            "regression",
            None,
            {"text": "x", "label": 10**400},
            r"line 2: .*a whole number above 1e308",
        ),
        ("regression", None, {"text": "x", "label": True}, r"label is True, expected a finite"),
        (
            "regression",
            None,
            {"text": ["x"], "label": 1},
            r"line 2: text is \['x'\], expected text",
        ),
        ("text", None, {**LINE, "text": "\ud800 x"}, r"line 2: .*half of a surrogate pair"),
        ("text", None, {**LINE, "target": float("nan")}, r"line 2: target is nan, expected text"),
        ("ranking", None, LINE, r"task\.json: kind is 'ranking', expected one of text, class"),
    ],
)
def test_lines_that_cannot_be_used(tmp_path, kind, labels, row, said):
    good = {"text": LINE, "classification": {"text": "x", "label": "a"}}
    good = good.get(kind, {"text": "x", "label": 1})
    with pytest.raises(DataError, match=said):
        read_task(write_task(tmp_path / "t", [good, row], kind, labels))


def test_files_that_cannot_be_used(tmp_path):
    folder = write_task(tmp_path / "t", [])
    with pytest.raises(DataError, match=r"train\.jsonl: holds no examples"):
        read_task(folder)
    (folder / "train.jsonl").write_text("{not json}\n")
    with pytest.raises(DataError, match=r"train\.jsonl, line 1: is not valid JSON"):
        read_task(folder)
    (folder / "task.json").unlink()
    with pytest.raises(DataError, match=r"task\.json: cannot be read: No such file"):
        read_task(folder)
    with pytest.raises(DataError, match=r"t: no tokenizer can be read there: \S"):
        open_tokenizer(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(DataError, match=r"t: the tokenizer there has no vocabulary"):
        open_tokenizer(folder)


def test_tasks_are_found_by_path_and_pattern(tmp_path):
    folders = [write_task(tmp_path / "data" / name, [LINE]) for name in ("b", "a", "c")]
    (tmp_path / "data" / ".draft").mkdir()
    assert find_tasks([str(tmp_path / "data" / "*")]) == sorted(folders)
    given = [str(folders[0]), str(tmp_path / "data" / "[ab]"), f"{folders[2]}/"]
    assert [path.name for path in find_tasks(given)] == ["b", "a", "c"]
    other = write_task(tmp_path / "more" / "a", [LINE])
    with pytest.raises(DataError, match=r"more/a and \S+data/a have one name"):
        find_tasks([str(folders[1]), str(other)])
    with pytest.raises(DataError, match=r"nothing\*: is not there, expected a task's folder"):
        find_tasks([str(tmp_path / "nothing*")])
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file: is a file"):
        find_tasks([str(tmp_path / "file")])


def test_generated_tokens_are_text_again(task):
    for tokenizer in (byte_tokenizer(), spaced_tokenizer()):
        example = only(encode(task, tokenizer))
        written = [*example.tokens[example.prompt :], -1, -1]
        assert decode(tokenizer, written) == LINE["target"]
        assert decode(tokenizer, np.array([-1, -1])) == ""


def test_stories_tokenizer(task):
    tokenizer = open_tokenizer(real_data("stories260K"))
    example = only(encode(task, tokenizer, vocabulary=512))
    prompt, learned = parts(tokenizer, example)
    assert (prompt, learned) == (f"<s> {PROMPT}\n", f"{LINE['target']}</s>")
    assert example.tokens[0] == 1
    assert example.tokens[-1] == 2


def test_roberta_tokenizer(tmp_path):
    tokenizer = open_tokenizer(real_data("roberta-base-tokenizer"))
    rows = [
        {"text": "Good film.", "text_pair": "Great film.", "label": "same"},
        {"text": "Good film.", "text_pair": "A dog.", "label": "other"},
    ]
    task = read_task(write_task(tmp_path / "t", rows, "classification", ["other", "same"]))
    encoded = encode(task, tokenizer, vocabulary=50265)
    first, second = encoded.splits["train"]
    options = {"skip_special_tokens": False}
    assert tokenizer.decode(first.tokens, **options) == "<s>Good film.</s></s>Great film.</s>"
    assert (first.line.label, second.line.label, first.prompt) == (1, 0, 0)
    uneven = [rows[0], {"text": "x", "label": "same"}]
    task = read_task(write_task(tmp_path / "u", uneven, "classification", ["other", "same"]))
    with pytest.raises(DataError, match="line 2: text_pair is missing, but other lines"):
        encode(task, tokenizer)


def test_second_texts_have_a_type_of_their_own(tmp_path):
    rows = [{"text": "w1 w2", "text_pair": "w3", "label": 0.5}]
    task = read_task(write_task(tmp_path / "t", rows, "regression"))
    example = only(encode(task, pair_tokenizer(), types=2))
    assert example.tokens.tolist() == [2, 5, 6, 3, 7, 3]
    assert example.types.tolist() == [0, 0, 0, 0, 1, 1]
    assert only(encode(task, pair_tokenizer(), types=1)).types == 0  # as for RoBERTa
    odd = pair_tokenizer()
    odd.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A", pair="$A $B:4", special_tokens=[]
    )
    with pytest.raises(DataError, match=r"line 1: the tokenizer .* gives the token type 4, but .*"):
        encode(task, odd, types=2)
