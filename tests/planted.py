"""A small family of adapters with planted structure, so that the metrics have something to find."""

import json
from pathlib import Path

import numpy as np

_LAYERS, _WIDTH, _RANK = 4, 128, 8
_MODULES = ("self_attn.q_proj", "self_attn.v_proj")

PLANTED = """Planted structure:
- topic-a1, topic-a2, topic-a3 share half of their spaces; topic-b1, topic-b2 likewise;
- topic-a-narrow (rank 3) lies inside topic-a1;
- topic-a1-again is topic-a1 in other factors (B·G, G⁻¹·A), so at distance 0 from it."""


def write_family(folder: Path, seed: int = 0) -> None:
    """Write seven adapters in PEFT format below `folder`."""
    from safetensors.numpy import save_file

    family: dict[str, dict[str, np.ndarray]] = {}
    rng = np.random.default_rng(seed)
    for layer in range(_LAYERS):
        for module in _MODULES:
            for task, (B, A) in _module_family(rng).items():
                path = f"base_model.model.model.layers.{layer}.{module}"
                tensors = family.setdefault(task, {})
                tensors[f"{path}.lora_A.weight"] = A.astype(np.float32)
                tensors[f"{path}.lora_B.weight"] = B.astype(np.float32)
    for task, tensors in family.items():
        rank = next(iter(tensors.values())).shape[0]
        home = folder / task
        home.mkdir(parents=True, exist_ok=True)
        config = {
            "peft_type": "LORA",
            "base_model_name_or_path": "planted",
            "r": rank,
            "lora_alpha": 2 * rank,
            "target_modules": [name.rsplit(".", 1)[1] for name in _MODULES],
        }
        (home / "adapter_config.json").write_text(json.dumps(config, indent=2))
        save_file(tensors, home / "adapter_model.safetensors", metadata={"format": "pt"})


def _module_family(rng: np.random.Generator) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(B, A) of every task for one module."""

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape) / np.sqrt(_WIDTH)

    half = _RANK // 2
    updates = {}
    for topic, count in (("topic-a", 3), ("topic-b", 2)):
        common_out, common_in = normal(_WIDTH, half), normal(half, _WIDTH)
        for n in range(1, count + 1):
            B = np.concatenate([common_out, normal(_WIDTH, _RANK - half)], axis=1)
            A = np.concatenate([common_in, normal(_RANK - half, _WIDTH)], axis=0)
            updates[f"{topic}{n}"] = (B, A)
    B, A = updates["topic-a1"]
    updates["topic-a-narrow"] = (B @ normal(_RANK, 3), normal(3, _RANK) @ A)
    G = np.linalg.qr(normal(_RANK, _RANK))[0] * np.linspace(0.5, 2, _RANK)
    updates["topic-a1-again"] = (B @ G, np.linalg.solve(G, A))
    return updates
