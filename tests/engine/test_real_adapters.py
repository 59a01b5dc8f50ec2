"""All trained adapters of the data folder: what `compare` says against plain dense matrices.

The reader here is the format in thirty lines, without jaxtask; the values are NumPy's SVD of dense
ΔW in float64.
"""

import json
import pickle
import re
import zipfile
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import jaxtask as jt
from jaxtask.adapters.adapter import Adapter
from oracles import Dense, DensePair, distances
from real_data import real_data

# Of every group of one base model: a module of two layers as the files call it, by its key. Few,
# as SVDs of dense matrices take long.
MODULES = {
    "gpt2": {
        (0, "attn.c_attn"): "transformer.h.0.attn.c_attn",
        (11, "attn.c_proj"): "transformer.h.11.attn.c_proj",
    },
    "roberta-base": {
        (0, "attention.self.query"): "roberta.encoder.layer.0.attention.self.query",
        (11, "attention.self.value"): "roberta.encoder.layer.11.attention.self.value",
    },
    "distilbert-base-uncased": {
        (0, "attention.q_lin"): "distilbert.transformer.layer.0.attention.q_lin",
        (5, "attention.v_lin"): "distilbert.transformer.layer.5.attention.v_lin",
    },
}
ADAPTERS = {"gpt2": 7, "roberta-base": 4, "distilbert-base-uncased": 1}


def read_tensors(folder):
    """The tensors of an adapter; a `.bin` by a pickle that knows float32 alone."""
    if (folder / "adapter_model.safetensors").exists():
        return load_file(folder / "adapter_model.safetensors")
    with zipfile.ZipFile(folder / "adapter_model.bin") as archive:
        (data,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))

        class Reader(pickle.Unpickler):
            def find_class(self, module, name):
                return {
                    ("collections", "OrderedDict"): dict,
                    ("torch", "FloatStorage"): "<f4",
                    ("torch._utils", "_rebuild_tensor_v2"): rebuild,
                }[module, name]

            def persistent_load(self, pid):
                _, dtype, key, _, _ = pid
                return np.frombuffer(archive.read(data.replace("data.pkl", f"data/{key}")), dtype)

        return Reader(archive.open(data)).load()


def rebuild(storage, offset, shape, strides, *_):
    strides = [4 * stride for stride in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, strides)


def dense(folder, paths):
    """`Dense` of every module that the adapter has, by the module's key: ΔW = α/r · B·A."""
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = read_tensors(folder)
    found = {}
    for key, path in paths.items():
        A = tensors.get(f"base_model.model.{path}.lora_A.weight")
        if A is None:
            continue
        B = tensors[f"base_model.model.{path}.lora_B.weight"]
        alpha, r = config["lora_alpha"], len(A)
        for name, value in (config.get("alpha_pattern") or {}).items():
            alpha = value if re.search(rf"(^|\.){name}$", path) else alpha
        scale = alpha / (r**0.5 if config.get("use_rslora") else r)
        update = Dense(B, A, r, scale)
        assert update.s[-1] > 4 * np.sqrt(r) * np.finfo(np.float32).eps * update.s[0]  # all count
        found[key] = update
    return found


def few_modules(bank, keys):
    """The bank with these modules only."""
    return jt.AdapterBank(
        [
            Adapter(
                one.name,
                one.base_model,
                one.provenance,
                {key: one.entry(key) for key in one.modules if key in keys},
            )
            for one in bank.adapters
        ]
    )


def folders(base):
    """The adapters of one base model by their names."""
    return {
        path.name: path
        for path in sorted(Path(real_data("adapters")).iterdir())
        if path.is_dir()
        and json.loads((path / "adapter_config.json").read_text())["base_model_name_or_path"]
        == base
    }


def test_every_one_loads():
    """At once, and nothing but classification heads and biases is left out."""
    root = real_data("adapters")
    bank = jt.load_adapters(root, allow_base_mismatch=True)
    assert len(bank.tasks) == sum(ADAPTERS.values()) == len({*bank.tasks})
    for adapter in bank.adapters:
        stored = read_tensors(root / adapter.name)
        factors = {name for name in stored if ".lora_A." in name or ".lora_B." in name}
        assert 2 * len(adapter.modules) == len(factors)
        assert {*stored} - factors <= {*adapter.provenance["excluded"]}


@pytest.mark.slow
@pytest.mark.parametrize("base", ADAPTERS)
def test_compared_as_dense_matrices_are(within, base):
    paths = folders(base)
    assert len(paths) == ADAPTERS[base]
    if len(paths) == 1:  # against itself, as a task of another name
        paths |= {"again": next(iter(paths.values()))}
    bank = few_modules(jt.load_adapters(paths), MODULES[base])
    assert {*bank.modules} == {*MODULES[base]}
    ds = jt.compare(bank, dtype="float64", keep=["angles", "spectra"])
    updates = {path: dense(path, MODULES[base]) for path in {*paths.values()}}
    compared = 0
    for (layer, module), source, target in product(MODULES[base], paths, paths):
        here = ds.sel(layer=layer, module=module)
        pair = here.sel(source=source, target=target)
        one, two = (updates[paths[task]].get((layer, module)) for task in (source, target))
        assert bool(pair["valid"]) == (one is not None and two is not None)
        if not pair["valid"]:
            assert np.isnan(pair["cosine"])
            continue
        compared += 1
        if source == target:
            check_task(within, here.sel(task=source), one)
        check_pair(within, pair, DensePair(one, two))
    assert compared >= len(paths) ** 2


def check_task(within, found, update):
    assert int(found["rank"]) == update.rank
    within("real: norms", abs(found["frobenius"] / update.norm - 1), 1e-12)
    spectrum = found["spectra"].values
    assert np.isnan(spectrum[update.rank :]).all()
    within("real: S₁", np.abs(spectrum[: update.rank] / update.s - 1).max(), 1e-10)


def check_pair(within, found, pair):
    k, l = pair.one.rank, pair.two.rank  # noqa: E741
    for side in ("out", "in"):
        truth = pair.angles(side)
        angles = found[f"angles_{side}"].values
        assert np.isnan(angles[min(k, l) :]).all()
        within("real: angles", np.abs(angles[: min(k, l)] - truth).max(), 1e-10)
        expected = distances(truth, k, l)
        for name in ("grassmann", "geodesic", "chordal", "projection", "containment", "overlap"):
            error = abs(found[f"{name}_{side}"] - expected[name])
            within(f"real: {name}", error, 1e-9)
    S2 = found["projected"].values[:k]
    within("real: S₂", np.abs(S2 - pair.projected).max() / pair.two.norm, 1e-11)
    sizes = {"inner": pair.one.norm * pair.two.norm}
    sizes |= dict.fromkeys(("l2", "spectral_l1", "spectral_l2"), pair.one.norm + pair.two.norm)
    for name, value in pair.unsided().items():
        within(f"real: {name}", abs(found[name] - value) / sizes.get(name, 1.0), 1e-10)
