"""Makers of adapter files: names, factors, tensors of a PEFT file."""

import numpy as np

WEIGHTS = "adapter_model.safetensors"
CONFIG = {
    "peft_type": "LORA",
    "base_model_name_or_path": "org/base",
    "r": 4,
    "lora_alpha": 8,
    "target_modules": ["q_proj"],
}
PREFIX = "base_model.model.model.layers."


def make_pair(seed, d_out=6, d_in=5, r=4, dtype=np.float32):
    """Random factors B [d_out, r] and A [r, d_in]."""
    rng = np.random.default_rng(seed)
    B, A = rng.standard_normal((d_out, r)), rng.standard_normal((r, d_in))
    return B.astype(dtype), A.astype(dtype)


def peft_tensors(modules=("0.self_attn.q_proj", "1.self_attn.q_proj"), **shape):
    """Tensors of a PEFT file with the given modules below `PREFIX`."""
    tensors = {}
    for seed, module in enumerate(modules):
        B, A = make_pair(seed, **shape)
        tensors[f"{PREFIX}{module}.lora_A.weight"] = A
        tensors[f"{PREFIX}{module}.lora_B.weight"] = B
    return tensors
