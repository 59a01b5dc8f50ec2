"""Tensors beside the factors, and factors that are not there, against what PEFT does of a file."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adapters.adapter_files import WEIGHTS
from jaxtask.adapters import parse_module_path
from parity.live_peft import assert_same, live_deltas, load_one, lora, make, peft, save

pytestmark = pytest.mark.parity
PREFIX = "base_model.model."
FIRST = f"{PREFIX}layers.0.q_proj"


@pytest.fixture
def loaded(tmp_path):
    """What PEFT says of a changed file, and of ΔW; our adapter of it."""

    def _load(change, **fields):
        save(make(lora(**fields)), tmp_path)
        tensors = load_file(tmp_path / WEIGHTS)
        change(tensors)
        save_file(tensors, tmp_path / WEIGHTS)
        model = make(lora(**fields))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.zero_()  # as in a new model: what no file gives changes nothing
        state = peft.utils.load_peft_weights(str(tmp_path), device="cpu")
        said = peft.set_peft_model_state_dict(model, state)
        return said, live_deltas(model), load_one(tmp_path)

    return _load


def ones(*shape):
    return np.ones(shape, np.float32)


@pytest.mark.parametrize(
    ("name", "value", "known"),
    [
        (f"{PREFIX}score.weight", ones(3, 12), False),
        (f"{PREFIX}classifier.out_proj.bias", ones(3), False),
        (f"{PREFIX}lm_head.weight", ones(20, 12), False),
        (f"{PREFIX}embed_tokens.weight", ones(20, 12), False),
        (f"{FIRST}.base_layer.weight", ones(10, 12), True),
        (f"{FIRST}.base_layer.bias", ones(10), True),
    ],
)
def test_what_is_left_out_changes_no_update(loaded, name, value, known):
    """PEFT does not know it, or it is the base's: in both cases ΔW is that of the other tensors."""
    said, deltas, ours = loaded(lambda tensors: tensors.update({name: value}))
    assert said.unexpected_keys == ([] if known else [name])
    assert name in ours.provenance["excluded"]
    assert_same(ours, deltas)


def test_what_is_missing_is_missing(loaded):
    """Modules without factors: PEFT leaves them at their start, ΔW = 0; we do not have them."""

    def change(tensors):
        for side in "AB":
            del tensors[f"{FIRST}.lora_{side}.weight"]

    said, deltas, ours = loaded(change)
    missing = {name for name in said.missing_keys if "lora_" in name}
    assert missing == {f"{FIRST}.lora_{side}.default.weight" for side in "AB"}
    gone = deltas.pop(FIRST)
    assert not gone.any()
    assert parse_module_path(FIRST) not in ours.modules
    assert_same(ours, deltas)


def test_modules_of_another_base_are_kept(loaded):
    """PEFT drops factors of modules that its model lacks, which the file alone does not tell."""

    def change(tensors):
        for side in "AB":
            own = tensors[f"{FIRST}.lora_{side}.weight"]
            tensors[f"{PREFIX}layers.7.q_proj.lora_{side}.weight"] = own.copy()

    said, deltas, ours = loaded(change)
    more = f"{PREFIX}layers.7.q_proj"
    assert {name.partition(".lora_")[0] for name in said.unexpected_keys} == {more}
    assert_same(ours, {**deltas, more: deltas[FIRST]})
