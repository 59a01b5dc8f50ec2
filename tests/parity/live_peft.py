"""Live PEFT models, and the update each of their modules applies. Skips without torch or peft."""

import warnings

import numpy as np
import pytest

from jaxtask.adapters import load_adapters, parse_module_path

torch = pytest.importorskip("torch", reason="parity tests need torch")
with warnings.catch_warnings():
    # Deprecations inside third-party packages while they are imported.
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.simplefilter("ignore", FutureWarning)
    peft = pytest.importorskip("peft", reason="parity tests need peft")
    import transformers as transformers


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj = torch.nn.Linear(12, 10)
        self.k_proj = torch.nn.Linear(12, 6, bias=False)
        self.down_proj = torch.nn.Linear(6, 12)


class Tiny(torch.nn.Module):
    """Linear layers in a stack, an embedding, convolutions and a head."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(20, 12)
        self.layers = torch.nn.ModuleList([Block() for _ in range(3)])
        self.conv1 = torch.nn.Conv1d(4, 6, 3)
        self.conv2 = torch.nn.Conv2d(4, 6, (2, 3))
        self.conv3 = torch.nn.Conv3d(2, 6, 2)
        self.grouped = torch.nn.Conv2d(4, 8, 3, groups=2)
        self.head = torch.nn.Linear(12, 3)

    def forward(self, x):
        return self.head(self.embed(x))


def randomise(model):
    """Gives every adapter tensor values, as if trained (B starts at zero)."""
    generator = torch.Generator().manual_seed(7)
    for name, parameter in model.named_parameters():
        if "lora_" in name and "ranknum" not in name:
            values = torch.randn(parameter.shape, generator=generator)
            parameter.data.copy_(values.to(parameter.dtype))
    return model


def make(config, base=None, dtype=None):
    torch.manual_seed(0)
    base = Tiny() if base is None else base
    if dtype is not None:
        base = base.to(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(base, config, autocast_adapter_dtype=dtype is None)
    return randomise(model)


def save(model, folder, **options):
    with warnings.catch_warnings():
        # PEFT warns that it saves embeddings, and that it cannot look up a base model.
        warnings.simplefilter("ignore")
        model.save_pretrained(str(folder), save_embedding_layers=False, **options)
    return folder


def live_deltas(model):
    """Stored module path → ΔW as PEFT applies it, float64."""
    deltas = {}
    for name, module in model.named_modules():
        if hasattr(module, "get_delta_weight") and "default" in getattr(module, "r", {}):
            with torch.no_grad():
                deltas[name] = module.get_delta_weight("default").double().numpy()
    assert deltas
    return deltas


def assert_same(adapter, deltas, tolerance=1e-6, transposed=()):
    """Every live ΔW, and nothing else, is what the adapter gives."""
    expected = {}
    for path, delta in deltas.items():
        delta = delta.T if any(name in path for name in transposed) else delta
        expected[parse_module_path(path)] = delta.reshape(delta.shape[0], -1)
    assert set(adapter.modules) == set(expected)
    for key, delta in expected.items():
        ours = adapter.load(key).dense()
        assert ours.shape == delta.shape
        error = np.abs(ours - delta).max() / np.abs(delta).max()
        assert error <= tolerance, (key, error)


def load_one(folder, **options):
    (adapter,) = load_adapters(folder, **options).adapters
    return adapter


def lora(**fields):
    fields.setdefault("target_modules", ["q_proj", "k_proj", "down_proj"])
    return peft.LoraConfig(**{"r": 4, "lora_alpha": 12, **fields})
