"""Configs of base models: what a missing field means, and values that no model has."""

import json

import pytest
import transformers

from finetune.tiny import fields_of
from jaxtask.errors import ModelError
from jaxtask.finetune.models.architectures import ARCHITECTURES, DECODERS
from jaxtask.finetune.models.config import parse_config, read_config

FIELDS = {kind: fields_of(kind) for kind in ARCHITECTURES}
SHARED = {
    "vocabulary": "vocab_size",
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "mlp_width": "intermediate_size",
}
DECODER = {
    **SHARED,
    "kv_heads": "num_key_value_heads",
    "head_width": "head_dim",
    "norm_eps": "rms_norm_eps",
    "tied": "tie_word_embeddings",
    "positions": "max_position_embeddings",
    "begin": "bos_token_id",
}
ENCODER = {
    **SHARED,
    "norm_eps": "layer_norm_eps",
    "types": "type_vocab_size",
    "pad": "pad_token_id",
    "hidden_dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
}


@pytest.mark.parametrize("given", [{}, {"hidden_size": 8192, "num_attention_heads": 64}])
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_missing_fields_are_those_of_transformers(kind, given):
    row, decoder = ARCHITECTURES[kind], kind in DECODERS
    theirs = getattr(transformers, f"{row.family}Config")(**given)
    assert theirs.model_type == kind
    ours = parse_config({"model_type": kind, **given}, "test")
    for own, name in (DECODER if decoder else ENCODER).items():
        expected = getattr(theirs, name, None)
        if name == "head_dim" and expected is None:
            expected = theirs.hidden_size // theirs.num_attention_heads
        assert getattr(ours, own) == expected, name
    if decoder:
        assert ours.rope.theta == theirs.rope_parameters["rope_theta"]
        assert ours.ends == (() if theirs.eos_token_id is None else (theirs.eos_token_id,))
        assert ours.window == getattr(theirs, "sliding_window", None)
        assert not any(getattr(theirs, name) for name in row.bias_fields)
        assert ours.biases == row.biased
        assert theirs.hidden_act == row.activation
    else:
        assert ours.positions + ours.first_position == theirs.max_position_embeddings
        assert ours.first_position == (theirs.pad_token_id + 1 if row.after_padding else 0)
        assert theirs.classifier_dropout is None
        assert ours.head_dropout == theirs.hidden_dropout_prob


SIZES = [
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
]
NONSENSE = [-1, 0, 10**30, 2.5, float("inf"), float("nan"), "7", True, [8], {}]


@pytest.mark.parametrize("kind", FIELDS)
@pytest.mark.parametrize("name", SIZES)
def test_sizes_that_no_model_has(tmp_path, kind, name):
    for value in NONSENSE:
        (tmp_path / "config.json").write_text(json.dumps({**FIELDS[kind], name: value}))
        with pytest.raises(ModelError, match=rf"config.json: {name} is .*, expected ") as found:
            read_config(tmp_path)
        assert "\n" not in str(found.value)
        assert len(str(found.value)) < 400


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("llama", {"rms_norm_eps": float("nan")}),
        ("llama", {"rms_norm_eps": 10**400}),
        ("llama", {"rope_theta": "x"}),
        ("llama", {"rope_theta": -1}),
        ("llama", {"rope_theta": 10**400}),
        ("llama", {"rope_scaling": [1]}),
        ("llama", {"rope_scaling": "llama3"}),
        ("llama", {"rope_scaling": {"rope_type": ["yarn"]}}),
        ("llama", {"rope_scaling": {"rope_type": "llama3", "factor": 0}}),
        ("llama", {"num_key_value_heads": 0}),
        ("llama", {"num_attention_heads": 1 << 20}),
        ("llama", {"eos_token_id": [10**30]}),
        ("llama", {"bos_token_id": {}}),
        ("llama", {"model_type": ["llama"]}),
        ("llama", {"model_type": {"a": 1}}),
        ("llama", {"hidden_act": ["silu"]}),
        ("mistral", {"sliding_window": 0}),
        ("mistral", {"sliding_window": -4}),
        ("bert", {"pad_token_id": -1}),
        ("bert", {"hidden_dropout_prob": 1}),
        ("bert", {"classifier_dropout": "a"}),
        ("roberta", {"max_position_embeddings": 2}),
        ("roberta", {"pad_token_id": 600}),
    ],
)
def test_values_that_no_model_has(kind, fields):
    with pytest.raises(ModelError, match=r"^somewhere: ") as found:
        parse_config({**FIELDS[kind], **fields}, "somewhere")
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "7", '"llama"', "null", "\0", "[" * 10**5, "1" * 10**5]
)
def test_files_that_are_no_configs(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"config\.json: \S") as found:
        read_config(tmp_path)
    assert "\n" not in str(found.value)
    assert len(str(found.value)) < 500
