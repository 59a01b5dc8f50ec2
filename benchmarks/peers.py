"""One function per peer: the way each is best run, and nothing around it.

A peer's `setup` (not timed) puts the inputs into the form that its interface takes; `run` (timed)
starts from arrays in main memory and includes every decomposition; `read` (not timed) picks the
sampled cells out of what `run` returned.
"""

import json
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.problem import Problem, Sample, module_path

Quantity = Literal["grassmann", "geodesic", "cosine"]


@dataclass(frozen=True)
class Peer:
    """One way of computing `quantity` for the cells of a sample."""

    quantity: Quantity
    sampling: Literal["everything", "modules", "pairs", "one pair"]
    """How much of the problem it is timed on; see `measure.sample_for`."""
    needs: tuple[str, ...]
    """Distributions that must be installed; the first is the peer itself."""
    setup: Callable[[Problem, Sample], Any]
    run: Callable[[Any], Any]
    read: Callable[[Any, Sample], np.ndarray]
    """[modules, pairs] of the sample"""
    note: str = ""


def _as_array(values: Any, sample: Sample) -> np.ndarray:
    return np.asarray(values, np.float64).reshape(len(sample.modules), len(sample.pairs))


# --------------------------------------------------------------------------- this engine


def _bank(problem: Problem, sample: Sample) -> Any:
    from jaxtask import AdapterBank

    return AdapterBank.from_factors(
        {
            f"task{t:03d}": {
                module_path(m): (problem.B[m][t], problem.A[m][t]) for m in sample.modules
            }
            for t in range(problem.shape.tasks)
        }
    )


def _compare_grassmann(bank: Any) -> Any:
    import jaxtask

    return jaxtask.compare(bank, metrics=["grassmann"], sides=("out",))["grassmann_out"]


def _compare_cosine(bank: Any) -> Any:
    import jaxtask

    return jaxtask.compare(bank, metrics=["cosine"], sides=("out",))["cosine"]


def _read_engine(result: Any, sample: Sample) -> np.ndarray:
    first, second = np.transpose(sample.pairs)
    return _as_array(result.values[:, 0][:, first, second], sample)


# --------------------------------------------------------------------------- torch


@dataclass(frozen=True)
class _TorchInputs:
    modules: list[list[Any]]
    first: Any
    second: Any
    device: Any


def _torch_inputs(problem: Problem, sample: Sample) -> _TorchInputs:
    import torch

    first, second = (torch.as_tensor(x) for x in np.transpose(sample.pairs))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    modules = [[torch.from_numpy(B) for B in problem.B[m]] for m in sample.modules]
    return _TorchInputs(modules, first.to(device), second.to(device), device)


def _torch_plain(inputs: _TorchInputs) -> np.ndarray:
    """As one would write it: module by module, one product each, torch's own threads."""
    modules = (_torch_module(B, inputs, _basis_by_qr, _torch_square) for B in inputs.modules)
    return np.stack(list(modules))


def _torch(inputs: _TorchInputs) -> np.ndarray:
    return _torch_side_by_side(inputs, _basis_by_qr)


def _torch_cholesky(inputs: _TorchInputs) -> np.ndarray:
    return _torch_side_by_side(inputs, _basis_by_cholesky)


def _torch_side_by_side(inputs: _TorchInputs, basis: Callable) -> np.ndarray:
    """Modules side by side, one thread each, and hardly more than the upper half of products.

    Torch's own threads do nothing for batches of small decompositions: this is twice as fast on two
    cores, and the same on one.
    """
    import torch

    def one_module(factors: list) -> np.ndarray:
        return _torch_module(factors, inputs, basis, _torch_upper_half)

    if inputs.device.type == "cuda":
        return np.stack([one_module(factors) for factors in inputs.modules])
    workers = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return np.stack(list(pool.map(one_module, inputs.modules)))


def _torch_module(
    factors: list, inputs: _TorchInputs, basis: Callable, product: Callable
) -> np.ndarray:
    """Distances of all pairs in one module, [pairs]."""
    import torch

    with torch.inference_mode():
        B = torch.stack(factors).to(inputs.device)
        tasks, d, r = B.shape
        gram = product(basis(B).reshape(tasks * r, d), r)
        blocks = gram.reshape(tasks, r, tasks, r)[inputs.first, :, inputs.second, :]
        cosines = torch.linalg.svdvals(blocks).clamp(-1, 1)
        return torch.arccos(cosines).sum(-1).cpu().numpy()


def _torch_square(rows: Any, r: int) -> Any:
    """Products of the rows, all of them."""
    return rows @ rows.mT


def _torch_upper_half(rows: Any, r: int) -> Any:
    """Products of the rows; four slabs, each from its own rows on, save most of the lower half."""
    import torch

    gram = torch.empty(len(rows), len(rows), device=rows.device)
    step = max(r, len(rows) // 4)  # more slabs are slower again
    for start in range(0, len(rows), step):
        slab = slice(start, start + step)
        torch.mm(rows[slab], rows[start:].mT, out=gram[slab, start:])
    return gram


def _basis_by_qr(B: Any) -> Any:
    """[tasks, r, d]. LAPACK's result has this layout, so that the transpose is no copy."""
    import torch

    return torch.linalg.qr(B)[0].mT


def _basis_by_cholesky(B: Any) -> Any:
    """[tasks, r, d], as orthonormal as κ(B)² allows in float32."""
    import torch

    gram = B.mT @ B
    eye = torch.eye(gram.shape[-1], device=B.device).expand(gram.shape)
    inverse = torch.linalg.solve_triangular(torch.linalg.cholesky(gram), eye, upper=False)
    return inverse @ B.mT


# --------------------------------------------------------------------------- NumPy and SciPy


def _modules_of_B(problem: Problem, sample: Sample) -> list[list[np.ndarray]]:
    return [problem.B[m] for m in sample.modules]


def _numpy(modules: list[list[np.ndarray]]) -> np.ndarray:
    def one_module(factors: list[np.ndarray]) -> np.ndarray:
        Q = np.linalg.qr(np.stack(factors))[0]
        gram = np.einsum("sdk,tdl->stkl", Q, Q, optimize=True)
        cosines = np.linalg.svd(gram, compute_uv=False)
        return np.arccos(np.clip(cosines, -1, 1)).sum(-1)

    return np.stack([one_module(factors) for factors in modules])


def _read_square(distances: np.ndarray, sample: Sample) -> np.ndarray:
    first, second = np.transpose(sample.pairs)
    return _as_array(distances[:, first, second], sample)


def _pairs_of_B(problem: Problem, sample: Sample) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(problem.B[m][i], problem.B[m][j]) for m in sample.modules for i, j in sample.pairs]


def _scipy(pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[float]:
    from scipy.linalg import subspace_angles

    return [subspace_angles(X, Y).sum() for X, Y in pairs]


# --------------------------------------------------------------------------- from PyPI


def _pymanopt_inputs(problem: Problem, sample: Sample) -> tuple[Any, list, Sample]:
    from pymanopt.manifolds import Grassmann

    return (
        Grassmann(problem.shape.d, problem.shape.r),
        _modules_of_B(problem, sample),
        sample,
    )


def _pymanopt(inputs: tuple[Any, list, Sample]) -> list[float]:
    manifold, modules, sample = inputs
    distances = []
    for factors in modules:
        points = [np.linalg.qr(B)[0] for B in factors]
        distances += [manifold.dist(points[i], points[j]) for i, j in sample.pairs]
    return distances


def _gradience_inputs(problem: Problem, sample: Sample) -> list[tuple]:
    import torch

    def factors(module: int, task: int) -> tuple:
        A, B = (torch.from_numpy(x[module][task]) for x in (problem.A, problem.B))
        return A, B, None, problem.shape.r

    return [(*factors(m, i), *factors(m, j)) for m in sample.modules for i, j in sample.pairs]


def _gradience(pairs: list[tuple]) -> list[float]:
    from gradience.vnext.merge import compute_subspace_metrics

    # By default it looks at the directions that hold 90% of the energy only.
    return [
        float(
            np.arccos(
                compute_subspace_metrics(*x, energy_threshold=1.0).principal_angle_cosines
            ).sum()
        )
        for x in pairs
    ]


def _audit_inputs(problem: Problem, sample: Sample) -> tuple[Any, list[Path], Sample]:
    from safetensors.numpy import save_file

    folder = tempfile.TemporaryDirectory()
    adapters = []
    for task in sample.pairs[0]:
        path = Path(folder.name) / str(task)
        path.mkdir()
        tensors = {}
        for m in sample.modules:
            prefix = f"base_model.model.model.{module_path(m)}"
            tensors[f"{prefix}.lora_A.weight"] = problem.A[m][task]
            tensors[f"{prefix}.lora_B.weight"] = problem.B[m][task]
        save_file(tensors, path / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": problem.shape.r, "lora_alpha": problem.shape.r}
        (path / "adapter_config.json").write_text(
            json.dumps(config | {"target_modules": ["q_proj"]})
        )
        adapters.append(path)
    return folder, adapters, sample


def _audit(inputs: tuple[Any, list[Path], Sample]) -> list[float]:
    from gradience.vnext.merge import merge_audit

    _, adapters, sample = inputs
    report = merge_audit(*adapters, energy_threshold=1.0)
    cosines = {
        verdict["layer_name"].removeprefix("base_model.model.model."): verdict["metrics"][
            "principal_angle_cosines"
        ]
        for verdict in report.layer_verdicts
    }
    return [float(np.arccos(cosines[module_path(m)]).sum()) for m in sample.modules]


def _adaptersentry_inputs(problem: Problem, sample: Sample) -> list[tuple]:
    def factors(module: int, task: int) -> tuple:
        return problem.A[module][task], problem.B[module][task], 1.0

    return [(*factors(m, i), *factors(m, j)) for m in sample.modules for i, j in sample.pairs]


def _adaptersentry(pairs: list[tuple]) -> list[float | None]:
    from adaptersentry.features.lowrank_core import delta_cosine

    return [delta_cosine(*x) for x in pairs]


# --------------------------------------------------------------------------- by name

PEERS = {
    "jaxtask": Peer("grassmann", "everything", (), _bank, _compare_grassmann, _read_engine),
    "torch": Peer(
        "grassmann",
        "everything",
        ("torch",),
        _torch_inputs,
        _torch,
        _as_array,
        "as torch_plain, but modules side by side and the upper half of the products",
    ),
    "torch_plain": Peer(
        "grassmann",
        "everything",
        ("torch",),
        _torch_inputs,
        _torch_plain,
        _as_array,
        "QR, one product a module, svdvals, torch's own threads; output factor only; cosines only",
    ),
    "torch_cholesky": Peer(
        "grassmann",
        "everything",
        ("torch",),
        _torch_inputs,
        _torch_cholesky,
        _as_array,
        "as torch, but Cholesky of BᵀB in float32 for QR: angles off by κ(B)²·6e-8",
    ),
    "numpy": Peer(
        "grassmann",
        "modules",
        ("numpy",),
        _modules_of_B,
        _numpy,
        _read_square,
        "all ordered pairs; cosines only",
    ),
    "scipy": Peer(
        "grassmann",
        "pairs",
        ("scipy",),
        _pairs_of_B,
        _scipy,
        _as_array,
        "subspace_angles in a loop",
    ),
    "gradience": Peer(
        "grassmann",
        "pairs",
        ("gradience", "torch"),
        _gradience_inputs,
        _gradience,
        _as_array,
        "compute_subspace_metrics in float64; both sides' SVDs; cosines only",
    ),
    "gradience_audit": Peer(
        "grassmann",
        "one pair",
        ("gradience", "torch"),
        _audit_inputs,
        _audit,
        _as_array,
        "merge_audit, which reads both adapters from files",
    ),
    "pymanopt": Peer(
        "geodesic",
        "modules",
        ("pymanopt",),
        _pymanopt_inputs,
        _pymanopt,
        _as_array,
        "Grassmann.dist on bases from one QR per adapter; cosines only",
    ),
    "jaxtask_cosine": Peer("cosine", "everything", (), _bank, _compare_cosine, _read_engine),
    "adaptersentry": Peer(
        "cosine",
        "pairs",
        ("adaptersentry",),
        _adaptersentry_inputs,
        _adaptersentry,
        _as_array,
        "delta_cosine in a loop",
    ),
}
