"""A made-up model's modules, and random adapters on them."""

import numpy as np

from jaxtask.finetune.peft_io.write import AdapterForm
from jaxtask.finetune.recipe.settings import Lora

LAYERS = 3
LINEARS = {
    "self_attn.q_proj": (12, 10),
    "self_attn.v_proj": (12, 6),
    "mlp.down_proj": (20, 12),
}
ENCODER = {"attention.self.query": (8, 8), "attention.self.value": (8, 8)}
HEAD = {"classifier.dense": (8, 8), "classifier.out_proj": (8, 3)}


def decoder_layer(layer):
    return f"model.layers.{layer}"


def encoder_layer(layer):
    return f"roberta.encoder.layer.{layer}"


def even(rank, modules=LINEARS, layers=LAYERS):
    return {module: np.full(layers, rank) for module in modules}


def random_parameters(ranks, linears=LINEARS, head=(), seed=0, room=0):
    """One task's parameters: zero beyond its ranks, and `room` columns more than its largest."""
    rng = np.random.default_rng(seed)
    largest = max(int(row.max()) for row in ranks.values()) + room
    parameters = {}
    for module, row in ranks.items():
        d_in, d_out = linears[module]
        A = rng.standard_normal((len(row), d_in, largest)).astype(np.float32)
        B = rng.standard_normal((len(row), largest, d_out)).astype(np.float32)
        for layer, rank in enumerate(row):
            A[layer, :, rank:], B[layer, rank:] = 0, 0
        parameters[module] = {"A": A, "B": B}
    for name, (d_in, d_out) in dict(head).items():
        parameters[name] = {
            "kernel": rng.standard_normal((d_in, d_out)).astype(np.float32),
            "bias": rng.standard_normal(d_out).astype(np.float32),
        }
    return parameters


def decoder_form(ranks=None, **lora):
    lora = {"r": 4, "alpha": 8, "targets": ("q_proj", "v_proj", "down_proj"), **lora}
    return AdapterForm(
        "org/base", Lora(**lora), even(lora["r"]) if ranks is None else ranks, decoder_layer
    )


def encoder_form(**lora):
    lora = {"r": 4, "alpha": 8, "targets": ("query", "value"), **lora}
    ranks = even(lora["r"], ENCODER)
    return AdapterForm("org/encoder", Lora(**lora), ranks, encoder_layer, HEAD)
