"""Adapters of parameters (mixtures of experts) against live PEFT models."""

import pytest

from jaxtask.adapters import ModuleKey
from parity.live_peft import (
    assert_same,
    live_deltas,
    load_one,
    lora,
    make,
    save,
    torch,
    transformers,
)

pytestmark = pytest.mark.parity


def moe(target_parameters, **fields):
    config = transformers.MixtralConfig(
        hidden_size=8,
        intermediate_size=6,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=3,
        vocab_size=16,
    )
    fields = {"target_modules": ["q_proj"], "r": 2, **fields}
    model = transformers.MixtralForCausalLM(config)
    return make(lora(target_parameters=target_parameters, **fields), model)


@pytest.mark.parametrize(
    "target_parameters",
    [
        ["mlp.experts.down_proj"],
        ["mlp.experts.gate_up_proj"],
        ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
        ["down_proj", "gate_up_proj"],
    ],
)
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {
            "use_rslora": True,
            "rank_pattern": {"down_proj": 3},
            "alpha_pattern": {"gate_up_proj": 5},
        },
    ],
    ids=["plain", "patterns"],
)
def test_experts(tmp_path, target_parameters, fields):
    model = moe(target_parameters, **fields)
    save(model, tmp_path)
    """The file does not say which parameter is the inner one; the live model does."""
    names = {
        path: module.parameter_name
        for path, module in model.named_modules()
        if type(module).__name__ == "ParamWrapper"
    }
    deltas = {}
    for path, delta in live_deltas(model).items():
        if delta.ndim == 3:
            module = path.replace(".base_layer", "")
            parts = enumerate(delta)
            deltas |= {f"{module}.{expert}.{names[path]}": part for expert, part in parts}
        else:
            deltas[path] = delta
    adapter = load_one(tmp_path)
    assert_same(adapter, deltas)
    for name in target_parameters:
        key = ModuleKey(1, f"mlp.experts.2.{name.rpartition('.')[2]}")
        assert adapter.entry(key).parameter == name.rpartition(".")[2]


def test_transposed_experts(tmp_path):
    """gpt-oss stores its experts as (E, in, out): the factors still read (out, r) and (r, in)."""

    class Experts(torch.nn.Module):
        is_transposed = True

        def __init__(self):
            super().__init__()
            self.gate_up_proj = torch.nn.Parameter(torch.randn(3, 8, 10))

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.experts = Experts()
            self.lin = torch.nn.Linear(3, 3)

    config = lora(target_modules=[], target_parameters=["experts.gate_up_proj"], r=2)
    model = make(config, Model())
    save(model, tmp_path)
    (delta,) = live_deltas(model).values()
    adapter = load_one(tmp_path)
    assert_same(adapter, {f"experts.{e}.gate_up_proj": part.T for e, part in enumerate(delta)})


def test_one_expert_or_matrix_parameter(tmp_path):
    model = make(lora(target_modules=[], target_parameters=["q_proj.weight"]))
    save(model, tmp_path)
    assert_same(load_one(tmp_path), live_deltas(model))
