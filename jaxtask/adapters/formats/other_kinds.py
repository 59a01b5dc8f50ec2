"""What is no low-rank update that is read here: files and tensors of other kinds, by their names.

They would be refused in any case; this only says what they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

FIRST_BYTES = 512  # of a file: what `file_kind` looks at

_ENDINGS = {
    ".gguf": "a GGUF file of llama.cpp",
    ".ggml": "a GGML file of llama.cpp",
    ".nemo": "an archive of NVIDIA NeMo",
    ".ckpt": "a checkpoint of PyTorch Lightning",
    ".npz": "an archive of NumPy, which early mlx-lm wrote",
    ".npy": "an array of NumPy",
    ".h5": "an HDF5 file of Keras",
    ".keras": "an archive of Keras",
    ".msgpack": "a checkpoint of Flax",
    ".onnx": "an ONNX graph",
}
_STARTS = {
    b"GGUF": _ENDINGS[".gguf"],
    b"algg": _ENDINGS[".ggml"],
    b"lmgg": _ENDINGS[".ggml"],
    b"tjgg": _ENDINGS[".ggml"],
    b"\x89HDF": _ENDINGS[".h5"],
    b"\x93NUMPY": _ENDINGS[".npy"],
    b"\x1f\x8b": "compressed by gzip, as old archives of NVIDIA NeMo are",
    b"<!doc": "a web page, not the weights",
    b"<html": "a web page, not the weights",
    b"version https://git-lfs": "a Git LFS pointer, not the weights: run `git lfs pull` there",
}
_TAR, _TAR_AT = b"ustar", 257

# The last parts of tensors' names. Those of PEFT may be followed by an adapter's name.
_TENSORS = [
    (r"dora_scale|lora_magnitude_vector", "DoRA, which rescales the rows of W + s·B·A"),
    (r"lora_mid", "a Tucker decomposition, which is not B·A"),
    (r"hada_\w+", "LoHa, a Hadamard product"),
    (r"lokr_\w+", "LoKr, a Kronecker product"),
    (r"boft_\w+", "BOFT, which rotates the base weights"),
    (r"oft_\w+", "OFT, which rotates the base weights"),
    (r"ia3_\w+|on_input", "(IA)³, which rescales the base weights"),
    (r"[ab][12]\.weight", "GLoRA, whose update needs the base weights"),
    (r"diff|diff_b|set_weight", "a full difference of weights, which is not low-rank"),
    (r"[wb]_norm", "a trained normalisation, which is no matrix"),
    (r"vera_lambda_\w+", "VeRA, whose matrices are drawn from a seed"),
    (r"randlora_\w+", "RandLoRA, whose matrices are drawn from a seed"),
    (r"vblora_\w+", "VB-LoRA, whose factors are mixed from a bank"),
    (r"fourierft_\w+", "FourierFT, which is trained in the frequency domain"),
    (r"hra_u", "HRA, which reflects the base weights"),
    (r"bone_\w+|miss_\w+", "MiSS (Bone), which repeats one block"),
    (r"prompt_embeddings", "a prompt that is trained, which changes no weights"),
    (r"emb_params", "a textual inversion, which changes no weights"),
]
_NAMES = "|".join(f"(?P<k{n}>{name})" for n, (name, _) in enumerate(_TENSORS))
_KNOWN = re.compile(rf"(?:.*\.)?(?:{_NAMES})(?:\.\w+)?")
_LORA = re.compile(r"(?i)(.*[._])?lora(_linear_layer|_conv2d_layer)?[._]?(a|b|up|down|emb).*")
_OF_A_LAYER = re.compile(r"(?!base_model\.).*\.\d+\..*(weight|bias|qweight|scales)")


def ending_kind(suffix: str) -> str | None:
    """What a file with such an ending is."""
    return _ENDINGS.get(suffix.lower())


def file_kind(start: bytes) -> str | None:
    """What a file with these first bytes, up to `FIRST_BYTES`, is."""
    if start[4:9] == b"\0\0\0\0{" or start[:2] == b"PK":  # safetensors; torch.save
        return None
    if start[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
        return "a tar archive, as those of NVIDIA NeMo are"
    begins = start.lstrip().lower() if start.lstrip()[:1] == b"<" else start
    return next((what for magic, what in _STARTS.items() if begins.startswith(magic)), None)


def tensor_kind(name: str) -> str | None:
    """What kind of adapter has a tensor of this name."""
    found = _KNOWN.fullmatch(name)
    return None if found is None else _TENSORS[int(str(found.lastgroup)[1:])][1]


def held_instead(names: Iterable[str]) -> str | None:
    """What a file without a LoRA factor holds; None if it has one, or nothing is known of it."""
    names = list(names)
    if any(_LORA.fullmatch(name) for name in names):
        return None
    for name in names:
        if kind := tensor_kind(name):
            return f"tensor {name!r} belongs to {kind}"
    if layers := [name for name in names if _OF_A_LAYER.fullmatch(name)]:
        return (
            f"holds the weights of a whole model, such as {layers[0]!r}, and no adapter: give its "
            "base too, and `jaxtask extract` makes one"
        )
    return None
