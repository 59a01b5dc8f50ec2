"""Makers of checkpoints: tiny models before and after fine-tuning, as safetensors folders."""

import json

import ml_dtypes  # noqa: F401  (safetensors then knows bfloat16)
import numpy as np
from safetensors.numpy import save_file

LAYERS = 2
SHAPES = {"self_attn.q_proj": (48, 40), "self_attn.v_proj": (24, 40), "mlp.up_proj": (64, 40)}


def path(layer, module):
    return f"model.layers.{layer}.{module}"


def weights(seed=0, dtype=np.float32):
    """All tensors of a small decoder, by their names."""
    rng = np.random.default_rng(seed)
    shapes = {
        f"{path(layer, module)}.weight": shape
        for layer in range(LAYERS)
        for module, shape in SHAPES.items()
    }
    shapes |= {"model.embed_tokens.weight": (90, 40), "lm_head.weight": (90, 40)}
    shapes |= {f"model.layers.{n}.input_layernorm.weight": (40,) for n in range(LAYERS)}
    return {name: rng.standard_normal(s).astype(dtype) for name, s in shapes.items()}


def changed(tensors, rank, noise=0.0, seed=1, names=None):
    """The same with a random update of that rank, and noise, on every matrix; and the updates."""
    rng = np.random.default_rng(seed)
    after, updates = dict(tensors), {}
    for name, tensor in tensors.items():
        if tensor.ndim == 2 and (names is None or name in names):
            m, n = tensor.shape
            left, right = rng.standard_normal((m, rank)), rng.standard_normal((rank, n))
            update = 0.1 * left @ right + noise * rng.standard_normal((m, n))
            after[name] = (tensor.astype(np.float64) + update).astype(tensor.dtype)
            updates[name] = after[name].astype(np.float64) - tensor.astype(np.float64)
    return after, updates


def save(folder, tensors, config=None, shards=1):
    """A Hugging Face folder, with an index if there are several shards."""
    folder.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    names = sorted(tensors)
    places = {}
    for n in range(shards):
        file = f"model-{n + 1:05d}-of-{shards:05d}.safetensors"
        held = names[n::shards]
        places |= dict.fromkeys(held, file)
        save_file({name: tensors[name] for name in held}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return folder


def truncated(matrix, k):
    """The best approximation of rank k, and the singular values."""
    U, s, Vt = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    return (U[:, :k] * s[:k]) @ Vt[:k], s
