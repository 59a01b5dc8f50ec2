"""Adapters of stacked expert parameters. Oracle: PEFT's einsum, written out in NumPy float64."""

import numpy as np
import pytest

from adapters.adapter_files import PREFIX, peft_tensors
from jaxtask.adapters import AdapterBank, ModuleKey, load_adapters
from jaxtask.errors import AdapterError

E, R, D_IN, D_OUT = 3, 2, 5, 7
EXPERTS = f"{PREFIX}0.mlp.experts"
FIELDS = {"r": R, "lora_alpha": 6, "peft_version": "0.21.2"}
BOTH = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]


def stacked(seed=0, path=EXPERTS, r=R, d_out=D_OUT, d_in=D_IN):
    rng = np.random.default_rng(seed)
    A, B = rng.standard_normal((E * r, d_in)), rng.standard_normal((d_out, E * r))
    return {f"{path}.lora_A.weight": A, f"{path}.lora_B.weight": B}


def expected(tensors, path=EXPERTS, r=R):
    A = tensors[f"{path}.lora_A.weight"].reshape(E, r, -1)
    B = tensors[f"{path}.lora_B.weight"]
    return np.einsum("ore,eri->eoi", B.reshape(B.shape[0], r, E), A)


def load_one(folder):
    (adapter,) = load_adapters(folder).adapters
    return adapter


def test_split_per_expert(write):
    tensors = stacked()
    adapter = load_one(write(tensors, target_parameters=BOTH[1:], **FIELDS))
    keys = [ModuleKey(0, f"mlp.experts.{e}.down_proj") for e in range(E)]
    assert list(adapter.modules) == keys
    for e, key in enumerate(keys):
        assert adapter.modules[key] == (D_OUT, D_IN, R)
        assert adapter.path(key) == f"{EXPERTS}.{e}.down_proj"
        np.testing.assert_allclose(adapter.load(key).dense(), 3.0 * expected(tensors)[e])
        assert adapter.entry(key).parameter == "down_proj"
    assert not any("0.19" in note for note in adapter.provenance["notes"])


def test_two_parameters_are_nested(write):
    inner = f"{EXPERTS}.base_layer"
    tensors = stacked() | stacked(1, inner, r=4, d_out=8)
    fields = {"rank_pattern": {"gate_up_proj": 4}, "alpha_pattern": {"experts.gate_up_proj": 5}}
    adapter = load_one(write(tensors, target_parameters=BOTH, **FIELDS, **fields))
    assert len(adapter.modules) == 2 * E
    for e in range(E):
        outer_key = ModuleKey(0, f"mlp.experts.{e}.down_proj")
        np.testing.assert_allclose(adapter.load(outer_key).dense(), 3.0 * expected(tensors)[e])
        inner_key = ModuleKey(0, f"mlp.experts.{e}.gate_up_proj")
        assert adapter.entry(inner_key).parameter == "gate_up_proj"
        inner_update = expected(tensors, inner, 4)[e] * 5 / 4
        np.testing.assert_allclose(adapter.load(inner_key).dense(), inner_update)


def test_bare_parameter_names_do_not_catch_modules(write):
    """ "down_proj" as a parameter must not make experts of a plain q_proj of another rank."""
    tensors = stacked() | peft_tensors(["0.self_attn.q_proj"], r=4)
    adapter = load_one(write(tensors, target_parameters=["down_proj"], **FIELDS))
    assert ModuleKey(0, "self_attn.q_proj") in adapter.modules
    assert len(adapter.modules) == E + 1


@pytest.mark.parametrize("targets", ["all-linear", r".*q_proj"])
def test_bare_parameter_names_with_a_pattern_of_modules(write, targets):
    tensors = stacked() | peft_tensors(["0.self_attn.q_proj"], r=4)
    fields = {"target_parameters": ["down_proj"], "target_modules": targets, **FIELDS}
    assert len(load_one(write(tensors, **fields)).modules) == E + 1


def test_one_expert_keeps_its_path(write):
    tensors = peft_tensors(["0.mlp.router"], r=R)
    adapter = load_one(write(tensors, target_parameters=["mlp.router.weight"], **FIELDS))
    assert list(adapter.modules) == [ModuleKey(0, "mlp.router")]
    plain = load_one(write(peft_tensors(["0.mlp.router"], r=R), "plain", **FIELDS))
    assert AdapterBank([adapter, plain]).present(ModuleKey(0, "mlp.router")).tolist() == [0, 1]


def test_rank_that_does_not_divide(write):
    with pytest.raises(AdapterError, match="no stacked experts of rank 4"):
        load_adapters(write(stacked(), target_parameters=BOTH[1:], r=4))


def test_order_that_the_file_does_not_say(write):
    tensors = stacked() | stacked(1, f"{EXPERTS}.base_layer")
    fields = {"target_parameters": ["mlp.experts.w1", "mlp.experts.w2"], **FIELDS}
    adapter = load_one(write(tensors, **fields))
    key = ModuleKey(0, "mlp.experts.1")
    np.testing.assert_allclose(adapter.load(key).dense(), 3.0 * expected(tensors)[1])
    with pytest.raises(AdapterError, match="which one the file does not say"):
        load_adapters(write(tensors, rank_pattern={"w1": 1}, **fields))
    with pytest.raises(AdapterError, match="which one the file does not say"):
        load_adapters(write(tensors, alpha_pattern={"w1": 1}, **fields))


def test_old_versions_are_noted(write):
    fields = {**FIELDS, "peft_version": "0.18.1"}
    adapter = load_one(write(stacked(), target_parameters=BOTH[1:], **fields))
    assert any("before 0.19" in note for note in adapter.provenance["notes"])


def test_one_parameter_is_compared_with_both(write):
    """Whether another parameter is nested around it or not, a parameter has one key."""
    fields = {"alpha_pattern": {"gate_up_proj": 5}, **FIELDS}
    inner = stacked(1, f"{EXPERTS}.base_layer", d_out=8)
    both = load_one(write(stacked() | inner, "both", target_parameters=BOTH, **fields))
    up = {name.replace(".base_layer", ""): tensor for name, tensor in inner.items()}
    alone = load_one(write(up, "up", target_parameters=BOTH[:1], **fields))
    bank = AdapterBank([both, alone])
    for e in range(E):
        key = ModuleKey(0, f"mlp.experts.{e}.gate_up_proj")
        assert bank.present(key).tolist() == [0, 1]
        np.testing.assert_array_equal(both.load(key).dense(), alone.load(key).dense())
        assert bank.present(ModuleKey(0, f"mlp.experts.{e}.down_proj")).tolist() == [0]


def test_two_parameters_never_meet_under_one_key(write):
    down = load_one(write(stacked(), "down", target_parameters=BOTH[1:], **FIELDS))
    up = load_one(write(stacked(), "up", target_parameters=["mlp.experts.up_proj"], **FIELDS))
    assert not set(down.modules) & set(up.modules)
    fields = {"target_parameters": ["mlp.experts.w1", "mlp.experts.w2"], **FIELDS}
    nested = stacked() | stacked(1, f"{EXPERTS}.base_layer")
    unknown = load_one(write(nested, "unknown", **fields))
    fields["target_parameters"] = ["mlp.experts.w3", "mlp.experts.w4"]
    other = load_one(write(nested, "other", **fields))
    with pytest.raises(AdapterError, match=r"parameter 'w1\|w2 #\d' in adapter 'unknown'"):
        AdapterBank([unknown, other])


def test_stacked_experts_are_compared_with_experts_of_their_own(write):
    """Releases of one model differ in this; the weights do not."""
    tensors = stacked()
    together = load_one(write(tensors, "together", target_parameters=BOTH[1:], **FIELDS))
    modules = [f"0.mlp.experts.{e}.down_proj" for e in range(E)]
    apart = load_one(write(peft_tensors(modules, d_out=D_OUT, d_in=D_IN), "apart"))
    bank = AdapterBank([together, apart])
    assert set(bank.modules) == {ModuleKey(0, f"mlp.experts.{e}.down_proj") for e in range(E)}
    assert all(bank.present(key).tolist() == [0, 1] for key in bank.modules)
    exchanged = load_one(write(peft_tensors(modules, d_out=D_IN, d_in=D_OUT), "exchanged"))
    with pytest.raises(AdapterError, match=r"7 × 5 .* 5 × 7 .* one has its sides exchanged"):
        AdapterBank([together, exchanged])
    fields = {"target_parameters": ["mlp.experts.w1", "mlp.experts.w2"], **FIELDS}
    nested = stacked() | stacked(1, f"{EXPERTS}.base_layer")
    unknown = load_one(write(nested, "unknown", **fields))
    modules = ["0." + key.module for key in unknown.modules]
    apart = load_one(write(peft_tensors(modules, d_out=D_OUT, d_in=D_IN), "apart"))
    with pytest.raises(AdapterError, match=r"parameter 'w1\|w2 #\d' in .* but the module itself"):
        AdapterBank([unknown, apart])
