"""Floating-point operations of a training step, counted from shapes; README.md has the formula."""

from typing import NamedTuple

import numpy as np

from jaxtask.finetune.models.config import DecoderConfig, ModelConfig

# Of dense products in bfloat16 without sparsity, by what a device's kind contains.
_NOMINAL = {"H100": 989.4e12, "H200": 989.4e12, "A100": 312e12}


class Flops(NamedTuple):
    """Of one step; a product of m·k by k·n is 2·m·k·n."""

    forward: float
    backward: float
    recomputed: float
    """What remat, and the chunks of the loss, compute a second time."""

    @property
    def model(self) -> float:
        """What any implementation must do."""
        return self.forward + self.backward

    @property
    def hardware(self) -> float:
        """What is done."""
        return self.model + self.recomputed


def step_flops(
    config: ModelConfig,
    rank: int,
    targets: tuple[str, ...],
    segments: np.ndarray,
    supervised: int,
    remat: bool,
) -> Flops:
    """Of a step on rows with these `segments` [rows, places], each module of `targets` with LoRA.

    `supervised` is the number of tokens with loss (decoders only). Norms, rotations, softmax and
    the optimiser are left out, and so is what the gradient of the first layer's input saves.
    """
    tokens = int(np.count_nonzero(segments))
    frozen = sum(d_in * d_out for d_in, d_out in config.linears.values())
    added = sum(
        rank * (d_in + d_out)
        for module, (d_in, d_out) in config.linears.items()
        if module.rsplit(".", 1)[-1] in targets or targets == ("all-linear",)
    )
    layers = config.layers
    linear, lora = 2.0 * layers * tokens * frozen, 2.0 * layers * tokens * added
    attention = 4.0 * layers * _pairs(config, segments) * _attention_width(config)
    head = 0.0
    if isinstance(config, DecoderConfig):
        head = 2.0 * supervised * config.width * config.vocabulary
    forward = linear + lora + attention + head
    # A frozen product has one gradient, of its input; LoRA's and attention's have two.
    backward = linear + 2 * lora + 2 * attention + head
    return Flops(forward, backward, head + (linear + lora + attention if remat else 0))


def nominal_peak(device_kind: str) -> float | None:
    """What the maker says, or None where it is not written here."""
    return next((peak for name, peak in _NOMINAL.items() if name in device_kind), None)


def _attention_width(config: ModelConfig) -> int:
    if isinstance(config, DecoderConfig):
        return config.heads * config.head_width
    return config.width


def _pairs(config: ModelConfig, segments: np.ndarray) -> int:
    """How many (query, key) there are that may see each other."""
    pairs = 0
    for row in segments:
        for length in np.unique(row[row > 0], return_counts=True)[1].tolist():
            if not isinstance(config, DecoderConfig):
                pairs += length**2
            else:
                far = max(0, length - (config.window or length))
                pairs += length * (length + 1) // 2 - far * (far + 1) // 2
    return pairs
