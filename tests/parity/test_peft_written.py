"""What we write, PEFT loads; what PEFT writes goes through our form and back bit for bit."""

import dataclasses
import warnings

import numpy as np
import pytest
from safetensors.numpy import load_file

from finetune.adapters import even, random_parameters
from jaxtask.finetune.peft_io.read import read_adapter
from jaxtask.finetune.peft_io.write import AdapterForm, write_adapter
from jaxtask.finetune.recipe.settings import Lora
from parity.live_peft import assert_same, live_deltas, load_one, peft, randomise, save, torch

pytestmark = pytest.mark.parity

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        LlamaConfig,
        LlamaForCausalLM,
        RobertaConfig,
        RobertaForSequenceClassification,
    )

LAYERS = 2
DECODER = {
    "self_attn.q_proj": (16, 16),
    "self_attn.k_proj": (16, 8),
    "self_attn.v_proj": (16, 8),
    "self_attn.o_proj": (16, 16),
    "mlp.gate_proj": (16, 24),
    "mlp.up_proj": (16, 24),
    "mlp.down_proj": (24, 16),
}
ENCODER = {
    "attention.self.query": (16, 16),
    "attention.self.key": (16, 16),
    "attention.self.value": (16, 16),
    "attention.output.dense": (16, 16),
    "intermediate.dense": (16, 24),
    "output.dense": (24, 16),
}
ROBERTA_HEAD = {"classifier.dense": (16, 16), "classifier.out_proj": (16, 3)}
BERT_HEAD = {"classifier": (16, 3)}
SMALL = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
}


def llama():
    torch.manual_seed(1)
    return LlamaForCausalLM(LlamaConfig(**SMALL, num_key_value_heads=2))


def roberta():
    torch.manual_seed(1)
    return RobertaForSequenceClassification(RobertaConfig(**SMALL, num_labels=3))


def bert():
    torch.manual_seed(1)
    return BertForSequenceClassification(BertConfig(**SMALL, num_labels=3))


def ranks_of(modules, rank, linears):
    return even(rank, {name: linears[name] for name in modules}, LAYERS)


LLAMA_QV = ("self_attn.q_proj", "self_attn.v_proj")
CASES = {
    "llama, queries and values": (
        llama,
        DECODER,
        {},
        "model.layers",
        ranks_of(LLAMA_QV, 4, DECODER),
        {"targets": ("q_proj", "v_proj")},
    ),
    "llama, all modules, patterns, rslora": (
        llama,
        DECODER,
        {},
        "model.layers",
        {
            **ranks_of(DECODER, 4, DECODER),
            "self_attn.v_proj": np.array([2, 2]),
            "mlp.up_proj": np.array([4, 3]),
        },
        {
            "targets": tuple(name.split(".")[1] for name in DECODER),
            "rslora": True,
            "rank_pattern": {"v_proj": 2, r"^model\.layers\.1\.mlp\.up_proj": 3},
            "alpha_pattern": {"down_proj": 3, "v_proj": 1.5},
        },
    ),
    "llama, a regular expression over one layer": (
        llama,
        DECODER,
        {},
        "model.layers",
        {"mlp.gate_proj": np.array([0, 4])},
        {"targets": r".*\.1\.mlp\.gate_proj"},
    ),
    "roberta with its head": (
        roberta,
        ENCODER,
        ROBERTA_HEAD,
        "roberta.encoder.layer",
        ranks_of(("attention.self.query", "attention.self.value"), 4, ENCODER),
        {"targets": ("query", "value")},
    ),
    "roberta, dense layers as well": (
        roberta,
        ENCODER,
        ROBERTA_HEAD,
        "roberta.encoder.layer",
        ranks_of(("attention.output.dense", "intermediate.dense", "output.dense"), 4, ENCODER),
        {"targets": ("dense",)},
    ),
    "bert, all linear layers": (
        bert,
        ENCODER,
        BERT_HEAD,
        "bert.encoder.layer",
        ranks_of(ENCODER, 4, ENCODER),
        {"targets": "all-linear"},
    ),
}


@pytest.fixture(params=CASES)
def case(request, tmp_path):
    """(base model, our parameters, form, the folder they are written to)."""
    make, linears, head, layers, ranks, lora = CASES[request.param]
    form = AdapterForm(
        "made-up", Lora(r=4, alpha=8, **lora), ranks, lambda layer: f"{layers}.{layer}", head
    )
    parameters = random_parameters(ranks, linears, head)
    write_adapter(tmp_path / "ours", parameters, form, {})
    return make(), parameters, form, linears, tmp_path / "ours"


def load_in_peft(base, folder, **options):
    with warnings.catch_warnings():
        # A missing or an unexpected key is a warning there; others are between the two libraries.
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", FutureWarning)
        return peft.PeftModel.from_pretrained(base, str(folder), **options)


def test_peft_loads_the_same_keys_and_the_same_updates(case):
    base, parameters, form, _, folder = case
    model = load_in_peft(base, folder)
    held = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    written = load_file(folder / "adapter_model.safetensors")
    assert set(held) == set(written)
    for name, tensor in held.items():
        assert np.array_equal(tensor.numpy(), written[name]), name
    assert_same(load_one(folder), live_deltas(model))
    for name in form.head:
        layer = model.get_submodule(f"base_model.model.{name}") if "." not in name else None
        if layer is None:
            owner, part = name.split(".")
            layer = getattr(model.base_model.model.get_submodule(owner), part)
        layer = getattr(layer, "modules_to_save", {"default": layer})["default"]
        kernel, bias = parameters[name]["kernel"], parameters[name]["bias"]
        assert np.array_equal(layer.weight.detach().numpy(), kernel.T)
        assert np.array_equal(layer.bias.detach().numpy(), bias)


def test_what_peft_saves_again_is_what_we_wrote(case, tmp_path):
    base, parameters, form, linears, folder = case
    model = load_in_peft(base, folder, is_trainable=True)
    again = save(model, tmp_path / "peft")
    stored = read_adapter(again, linears, LAYERS, form.head)
    for module, leaves in parameters.items():
        for name, leaf in leaves.items():
            assert np.array_equal(stored.parameters[module][name], leaf), (module, name)


@pytest.mark.parametrize(
    ("make", "linears", "head", "layers", "options"),
    [
        (llama, DECODER, {}, "model.layers", {"target_modules": ["q_proj", "up_proj"]}),
        (
            llama,
            DECODER,
            {},
            "model.layers",
            {
                "target_modules": ["q_proj", "v_proj"],
                "rank_pattern": {"layers.1.self_attn.q_proj": 2},
                "alpha_pattern": {"v_proj": 5},
                "use_rslora": True,
                "layers_to_transform": [1],
            },
        ),
        (
            roberta,
            ENCODER,
            ROBERTA_HEAD,
            "roberta.encoder.layer",
            {"target_modules": ["query", "value"], "task_type": "SEQ_CLS"},
        ),
        (
            bert,
            ENCODER,
            BERT_HEAD,
            "bert.encoder.layer",
            {"target_modules": ["key", "intermediate.dense"], "task_type": "SEQ_CLS"},
        ),
    ],
)
def test_an_adapter_of_peft_goes_through_bit_for_bit(
    tmp_path, make, linears, head, layers, options
):
    config = peft.LoraConfig(r=4, lora_alpha=8, lora_dropout=0.1, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = randomise(peft.get_peft_model(make(), config))
    theirs = save(model, tmp_path / "theirs")
    stored = read_adapter(theirs, linears, LAYERS, head)
    form = AdapterForm("made-up", stored.lora, stored.ranks, lambda n: f"{layers}.{n}", head)
    write_adapter(tmp_path / "ours", stored.parameters, form, {})
    left, right = (
        load_file(folder / "adapter_model.safetensors") for folder in (theirs, tmp_path / "ours")
    )
    assert set(left) == set(right)
    for name in left:
        assert left[name].tobytes() == right[name].tobytes(), name
    loaded = load_in_peft(make(), tmp_path / "ours")
    before, after = live_deltas(model), live_deltas(loaded)
    assert set(before) == set(after)
    for name in before:
        assert np.array_equal(before[name], after[name]), name
    again = dataclasses.replace(stored.lora, shared_init=False)
    assert read_adapter(tmp_path / "ours", linears, LAYERS, head).lora == again
