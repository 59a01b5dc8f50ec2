"""A fully fine-tuned checkpoint as a task vector: ΔW = W_tuned − W_base, truncated by module.

Matrices come one after the other. Products of d × d with thin matrices are BLAS's business, and
reading adapters needs no JAX: so neither does this.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from google_crc32c import extend

from jaxtask.adapters import Adapter
from jaxtask.adapters.adapter import collect_entries
from jaxtask.adapters.factors import ArrayFactor, ModuleEntry
from jaxtask.adapters.keys import module_keys
from jaxtask.adapters.update import LowRankUpdate
from jaxtask.errors import AdapterError
from jaxtask.extract.checkpoint import open_checkpoint
from jaxtask.extract.choose import MatrixPair, choose, summarised
from jaxtask.extract.low_rank import LowRank, low_rank
from jaxtask.extract.shared_rows import row_blocks

EQUAL = "equal in both checkpoints"
# Less is the rounding of float32.
_WHOLE = 1e-6
_READ_BYTES = 1 << 20

PathLike = str | os.PathLike[str]


def from_checkpoints(
    base: PathLike,
    tuned: PathLike,
    *,
    rank: int = 64,
    energy: float | None = None,
    targets: str | Sequence[str] | None = None,
    outside_layers: bool = False,
    name: str | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Adapter:
    """The task vector of a fully fine-tuned model, as an adapter of low rank.

    For each matrix, ΔW = W_tuned − W_base is formed in float32 and truncated to its largest
    singular triplets (`jaxtask.extract.low_rank`). Memory: ΔW of the matrix at work and of the one
    that is read meanwhile, a few thin ones, and the factors. A matrix that is equal in both is left
    out, as a module that an adapter does not have.

    Args:
        base: The checkpoint before fine-tuning: a folder with safetensors weights, such a file or
            index, or an id in the local Hugging Face cache. Types may differ from `tuned`'s.
        tuned: The checkpoint after it.
        rank: The largest rank to keep per matrix.
        energy: Keep the smallest rank that holds this share of ‖ΔW‖_F², in (0, 1], up to `rank`.
        targets: Modules by the last parts of their names, or one regular expression for whole
            names; by default all matrices in layers.
        outside_layers: Take embeddings and heads too; without `targets`.
        name: The task's name; by default the last part of `tuned`.
        seed: Random seed for the sketches.
        progress: Called with the bytes that are done, and all of them.

    Returns:
        An `Adapter` with ``provenance["extracted"]``: both sources with a digest of what was read
        of them, and for every module its rank, ‖ΔW‖_F, the share of its square that is kept, the
        residual ‖ΔW − B·A‖_F, the singular value that follows, and a bound on ‖ΔW − B·A‖₂ that
        fails with probability 10⁻⁶.

    Raises:
        ModelError: A checkpoint is missing, or cannot be used.
        AdapterError: The two do not belong together, a tensor cannot be used, or nothing differs.

    """
    if rank < 1:
        raise AdapterError(f"rank is {rank}, expected a positive number")
    if energy is not None and not 0 < energy <= 1:
        raise AdapterError(f"energy is {energy}, expected a share above 0, and at most 1")
    before, after = open_checkpoint(base), open_checkpoint(tuned)
    pairs, left_out = choose(before, after, targets, outside_layers)
    digests = hashlib.sha256(), hashlib.sha256()
    entries: list[ModuleEntry] = []
    modules: dict[str, dict[str, Any]] = {}
    done, total = 0, sum(pair.bytes for pair in pairs)
    for pair, delta, sums in _differences(pairs):
        for told, stored, crc in zip(digests, (pair.base, pair.tuned), sums, strict=True):
            told.update(repr((stored.name, stored.dtype, stored.shape, crc)).encode())
        rng = np.random.default_rng([seed, zlib.crc32(pair.path.encode())])
        found = low_rank(delta, rank, energy, rng)
        del delta  # else it would live on while the next but one is read
        if found is None:
            left_out[pair.base.name] = EQUAL
        else:
            entries.append(_entry(pair, found))
            modules[pair.path] = _record(pair, found)
        done += pair.bytes
        if progress is not None:
            progress(done, total)
    if not entries:
        same = os.path.samefile(before.path, after.path)
        raise AdapterError(
            f"nothing differs: each of {len(pairs)} matrices is equal in {before.source} and "
            f"{after.source}{', which are the same' if same else ''}"
        )
    extracted = {
        "base": {"source": before.source, "digest": digests[0].hexdigest()},
        "tuned": {"source": after.source, "digest": digests[1].hexdigest()},
        "rank": rank,
        "energy": energy,
        "seed": seed,
        "modules": modules,
    }
    provenance = {
        "source": after.source,
        "format": "difference",
        "config": {},
        "excluded": summarised(left_out),
        "notes": [f"task vector {after.source} − {before.source}, truncated to rank {rank}"],
        "approximate": _approximate(modules, energy),
        "extracted": extracted,
    }
    # As a reader of the written adapter has them, which sees only what differs.
    keys = module_keys(entry.path for entry in entries)
    keyed = collect_entries([(keys[entry.path], entry) for entry in entries], after.source)
    return Adapter(name or after.name, before.source, provenance, keyed)


def _differences(
    pairs: list[MatrixPair],
) -> Iterator[tuple[MatrixPair, np.ndarray, tuple[int, int]]]:
    """Every ΔW, each read while the caller works on the one before."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(_difference, pairs[0])
        for n, pair in enumerate(pairs):
            delta, sums = coming.result()
            if n + 1 < len(pairs):
                coming = reader.submit(_difference, pairs[n + 1])
            else:
                del coming
            yield pair, delta, sums
            del delta


def _difference(pair: MatrixPair) -> tuple[np.ndarray, tuple[int, int]]:
    """ΔW as it is stored, in float32, and checksums of both matrices."""
    delta = np.empty(pair.base.shape, np.float32)
    first = second = 0
    for rows in row_blocks(delta, _READ_BYTES):
        old, new = pair.base.raw(rows), pair.tuned.raw(rows)
        first, second = extend(first, old.tobytes()), extend(second, new.tobytes())
        delta[rows] = pair.tuned.widen(new) - pair.base.widen(old)
    return delta, (first, second)


def _entry(pair: MatrixPair, found: LowRank) -> ModuleEntry:
    B, A = found.B, found.A
    if pair.kind == "conv1d":  # stored as (in, out)
        B, A = np.ascontiguousarray(A.T), np.ascontiguousarray(B.T)
    factors = ArrayFactor(B, "float32"), ArrayFactor(A, "float32")
    return ModuleEntry(pair.path, 1.0, *factors, update=LowRankUpdate(B, A))


def _record(pair: MatrixPair, found: LowRank) -> dict[str, Any]:
    """What is said of one module; JSON-able."""
    return {
        "kind": pair.kind,
        "rank": found.B.shape[1],
        "norm": found.norm,
        "kept": found.kept,
        "residual": found.residual,
        "following": found.following,
        "bound": found.bound,
    }


def _approximate(modules: dict[str, dict[str, Any]], energy: float | None) -> str | None:
    """None if the factors are all of ΔW."""
    least = min(module["kept"] for module in modules.values())
    if least > 1 - _WHOLE:
        return None
    whole = sum(m["norm"] ** 2 for m in modules.values())
    kept = 1 - sum(m["residual"] ** 2 for m in modules.values()) / whole
    text = f"the factors hold {kept:.1%} of the energy of ΔW, {least:.1%} of the worst module's"
    if energy is not None and (short := sum(m["kept"] < energy - _WHOLE for m in modules.values())):
        text += f"; {short} of {len(modules)} modules have less than the {energy:g} asked for"
    return text
