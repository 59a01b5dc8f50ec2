"""Kinds of adapters that are refused, as live PEFT saves them."""

import warnings

import numpy as np
import pytest

from jaxtask.adapters import ModuleKey, load_adapters
from jaxtask.errors import AdapterError
from parity.live_peft import Tiny, load_one, lora, make, peft, randomise, save, torch

pytestmark = pytest.mark.parity


def test_grouped_convolution_is_refused(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save(make(lora(target_modules=["grouped"])), tmp_path)
    with pytest.raises(AdapterError, match="grouped convolution \\(2 groups\\)"):
        load_adapters(tmp_path)


def test_legacy_bin_is_refused(tmp_path):
    model = save(make(lora()), tmp_path)
    (model / "adapter_model.safetensors").unlink()
    state = {"a": torch.ones(2)}
    torch.save(state, tmp_path / "adapter_model.bin", _use_new_zipfile_serialization=False)
    with pytest.raises(AdapterError, match=r"before torch 1\.6"):
        load_adapters(tmp_path)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"init_lora_weights": "pissa"}, "PiSSA"),
        ({"init_lora_weights": "pissa_niter_4"}, "PiSSA"),
        ({"init_lora_weights": "olora"}, "OLoRA"),
        ({"kasa_config": {}}, "kasa_config"),
        ({"monteclora_config": {}}, "monteclora_config"),
        ({"use_bdlora": {"nblocks": 2, "target_modules_bd_a": ["q_proj"]}}, "use_bdlora"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else value,
)
def test_refused_lora(tmp_path, fields, what):
    if "kasa_config" in fields:
        fields = {"kasa_config": peft.KasaConfig()}
    if "monteclora_config" in fields:
        fields = {"monteclora_config": peft.MontecloraConfig()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make(lora(**fields, target_modules=["q_proj"]))
    save(model, tmp_path)
    with pytest.raises(AdapterError, match=what):
        load_adapters(tmp_path)
    if "use_bdlora" in fields:
        with pytest.raises(AdapterError, match=what):
            load_adapters(tmp_path, directional=True)
    else:
        adapter = load_one(tmp_path, directional=True)
        assert what in adapter.provenance["approximate"]
        layer = model.base_model.model.layers[0].q_proj
        A, B = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        expected = (3.0 * B.double() @ A.double()).detach().numpy()
        ours = adapter.load(ModuleKey(0, "q_proj")).dense()
        np.testing.assert_allclose(ours, expected, rtol=1e-12)


def test_pissa_saved_converted_is_plain(tmp_path):
    torch.manual_seed(0)
    base = Tiny()
    reference = {name: p.detach().clone() for name, p in base.named_parameters()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = lora(init_lora_weights="pissa", target_modules=["q_proj"])
        model = peft.get_peft_model(base, config)
        model.peft_config["default"].init_lora_weights = True
        model.save_pretrained(str(tmp_path / "start"))
        model.peft_config["default"].init_lora_weights = "pissa"
        randomise(model)
        model.save_pretrained(
            str(tmp_path / "end"), path_initial_model_for_weight_conversion=str(tmp_path / "start")
        )
    adapter = load_one(tmp_path / "end")
    assert adapter.modules[ModuleKey(0, "q_proj")].rank == 8
    layer = model.base_model.model.layers[0].q_proj
    with torch.no_grad():
        merged = layer.base_layer.weight + layer.get_delta_weight("default")
        expected = (merged - reference["layers.0.q_proj.weight"]).double().numpy()
    ours = adapter.load(ModuleKey(0, "q_proj")).dense()
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        lambda: peft.LoHaConfig(target_modules=["q_proj"]),
        lambda: peft.LoKrConfig(target_modules=["q_proj"]),
        lambda: peft.OFTConfig(target_modules=["down_proj"], r=2, oft_block_size=0),
        lambda: peft.BOFTConfig(target_modules=["down_proj"], boft_block_size=2),
        lambda: peft.IA3Config(target_modules=["q_proj"], feedforward_modules=[]),
        lambda: peft.HRAConfig(target_modules=["q_proj"]),
        lambda: peft.VeraConfig(target_modules=["q_proj"]),
        lambda: peft.FourierFTConfig(target_modules=["q_proj"], n_frequency=5),
    ],
    ids=["LOHA", "LOKR", "OFT", "BOFT", "IA3", "HRA", "VERA", "FOURIERFT"],
)
def test_other_kinds_are_refused(tmp_path, config, request):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make(config())
        save(model, tmp_path)
    kind = request.node.callspec.id
    with pytest.raises(AdapterError, match=f"peft_type is '{kind}'"):
        load_adapters(tmp_path, directional=True)


def test_every_config_field_is_decided():
    """A field that a newer PEFT adds must be looked at, not slip through."""
    import dataclasses

    from jaxtask.adapters.formats.peft_fields import HARMLESS, REFUSED, USED

    known = USED | HARMLESS | set(REFUSED)
    for config in (peft.LoraConfig, peft.AdaLoraConfig):
        assert {field.name for field in dataclasses.fields(config)} - known == set()
    assert not USED & HARMLESS
    assert not (USED | HARMLESS) & set(REFUSED)


def test_every_other_peft_type_is_refused(tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    kinds = {kind.value for kind in peft.PeftType} - {"LORA", "ADALORA"}
    assert len(kinds) > 30
    for kind in kinds:
        (tmp_path / "adapter_config.json").write_text(f'{{"peft_type": "{kind}"}}')
        with pytest.raises(AdapterError, match=f"peft_type is '{kind}'"):
            load_adapters(tmp_path, directional=True)
