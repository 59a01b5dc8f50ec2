"""The three stages for the blocks of one module, by the fastest means there are.

On CPU the first two, factor and Gram, are native code on arrays in main memory, which reads the
factors where the bank has them. The third, and on other devices or without native code all of them,
are compiled programs. Several devices take a tile each, at once, and nothing goes between them.
Main memory is used again, since fresh pages cost more than what is computed on them.
"""

import math
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from importlib import import_module
from threading import Lock
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import DTypeLike
from threadpoolctl import ThreadpoolController

from jaxtask.adapters import AdapterBank, ModuleEntry, ModuleKey, ModuleStack
from jaxtask.engine.pair_stage import Grams, measure_tile
from jaxtask.engine.plan import Plan
from jaxtask.engine.spec import ComparisonSpec
from jaxtask_kernels import native
from jaxtask_kernels.backends import NATIVE, backend_for
from jaxtask_kernels.factor_rows import CHOLESKY_KAPPA, FactorRows, factor_rows
from jaxtask_kernels.native import aligned_empty

# Smaller arrays are the allocator's, which uses their memory again by itself.
_LEAST_BYTES = 1 << 16


class Memory:
    """Hands out arrays, and has their memory back when nobody refers to them any more.

    It never holds more than was in use at once at some time.
    """

    def __init__(self) -> None:
        self._free: list[np.ndarray] = []
        # A loan may end anywhere, also in a garbage collection below, while the lock is held: so
        # its end is only noted, which takes no lock.
        self._ended: deque[np.ndarray] = deque()
        self._lent, self._most_lent = 0, 0
        self._lock = Lock()

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
        """An uninitialised array that XLA can read where it lies."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size < _LEAST_BYTES:
            return aligned_empty(shape, dtype)
        return np.asarray(_Loan(self, self._piece(size)))[:size].view(dtype).reshape(shape)

    def _piece(self, size: int) -> np.ndarray:
        with self._lock:
            while self._ended:
                self._free.append(self._ended.popleft())
                self._lent -= self._free[-1].size
            fitting = [piece for piece in self._free if piece.size >= size]
            if fitting:
                piece = min(fitting, key=lambda piece: piece.size)
                self._free = [other for other in self._free if other is not piece]
            else:
                piece = aligned_empty((size,), np.uint8)
            self._lent += piece.size
            self._most_lent = max(self._most_lent, self._lent)
            while self._lent + sum(other.size for other in self._free) > self._most_lent:
                self._free.pop(0)
            return piece

    def take_back(self, piece: np.ndarray) -> None:
        """What a loan calls at its end."""
        self._ended.append(piece)


class _Loan:
    """What the arrays of one piece refer to, so that its end is the end of them all."""

    def __init__(self, memory: Memory, piece: np.ndarray) -> None:
        self._memory, self._piece = memory, piece
        self.__array_interface__: dict[str, Any] = piece.__array_interface__

    def __del__(self) -> None:
        self._memory.take_back(self._piece)


_AXIS = PartitionSpec("tile")


@cache
def _mesh() -> Mesh:
    return Mesh(np.array(jax.local_devices()), ("tile",))


def memory_of_a_device() -> int:
    """Bytes that this process may use of one of its devices, without bound where none is said."""
    said = jax.local_devices()[0].memory_stats() or {}
    return int(said.get("bytes_limit", sys.maxsize))


def measure_side_by_side(
    arguments: Sequence[tuple[Any, ...]], spec: ComparisonSpec
) -> dict[str, Array]:
    """`measure_tile` of each of the arguments, one on each of this process's devices.

    Args:
        arguments: Those of `measure_tile`, for at most as many tiles as there are devices, of
            equal shapes.
        spec: What to compute.

    Returns:
        What `measure_tile` returns, with a leading axis of the devices.

    """
    # What is left over does the first tile's work again, without looking at any of its pairs.
    idle = (*arguments[0][:4], np.int32(0), arguments[0][5])
    every = [*arguments, *[idle] * (_mesh().size - len(arguments))]
    spread = jax.tree.map(lambda *shards: _spread(shards), *every)
    return measure_tiles(spread, spec=spec, mesh=_mesh())


@partial(jax.jit, static_argnames=("spec", "mesh"))
def measure_tiles(
    arguments: tuple[Any, ...], *, spec: ComparisonSpec, mesh: Mesh
) -> dict[str, Array]:
    """`measure_tile` for arguments with a leading axis that is spread over the mesh."""

    def one(arguments: tuple[Any, ...]) -> dict[str, Array]:
        own = jax.tree.map(lambda x: x.reshape(x.shape[1:]), arguments)
        return {name: x[None] for name, x in measure_tile(*own, spec=spec).items()}

    return jax.shard_map(one, mesh=mesh, in_specs=_AXIS, out_specs=_AXIS, check_vma=False)(
        arguments
    )


def _spread(shards: Sequence[Any]) -> Array:
    """One array of the shards, each where it belongs."""
    devices = _mesh().devices.flat
    there = [jax.device_put(x[None], d) for x, d in zip(shards, devices, strict=True)]
    shape = (len(there), *there[0].shape[1:])
    return jax.make_array_from_single_device_arrays(shape, NamedSharding(_mesh(), _AXIS), there)


@contextmanager
def numerics() -> Iterator[None]:
    """Settings of the process for the calls inside; the user's own come back after."""
    with ExitStack() as settings:
        # TPUs emulate float64 and have no decompositions for it.
        if jax.default_backend() != "tpu":
            settings.enter_context(jax.enable_x64(True))
        if jax.default_backend() == "cpu":
            # jaxlib calls LAPACK from every core at once. Where each call asks for all cores again,
            # as it does from 32 columns on, that was 10 to 20 times slower on two cores.
            settings.enter_context(_blas().limit(limits=1))
        yield


@cache
def _blas() -> Any:
    import_module("scipy.linalg.cython_lapack")  # where jaxlib has its LAPACK from
    return ThreadpoolController().select(user_api="blas")


# Held while a compiled program runs that may have LAPACK's decompositions in it, by every
# comparison of the process.
_ONE_AT_A_TIME = Lock()


def runs_natively() -> bool:
    """Whether arrays in main memory are where the device computes, and native code is there."""
    return NATIVE.runs_on(jax.default_backend())


def modules_at_once(spec: ComparisonSpec, r: int) -> int:
    """How many threads may run compiled programs: one if several devices do."""
    return native.threads() if _may_meet(spec, r) and tiles_at_once(spec, r) == 1 else 1


def tiles_at_once(spec: ComparisonSpec, r: int) -> int:
    """How many of this process's devices compare tiles at the same time."""
    on_cpu = jax.default_backend() == "cpu"
    return 1 if on_cpu and not _may_meet(spec, r) else jax.local_device_count()


def _may_meet(spec: ComparisonSpec, r: int) -> bool:
    """Whether compiled programs may run at once on CPU: not if LAPACK's decompositions are in them.

    See `after` on what happens if those meet.
    """
    lapack = spec.dtype != "float32" or backend_for(r, jax.default_backend()).lapack
    lapack |= any(metric.decomposes for metric in spec.metrics)
    return runs_natively() and not lapack


class Tile(NamedTuple):
    """Two blocks to compare.

    Attributes:
        pairs: [n, 2] int32, places in rows and in cols.
        diagonal: Whether the two blocks are one.

    """

    rows: FactorRows
    cols: FactorRows
    pairs: np.ndarray
    diagonal: bool


class Host:
    """A bank, what to compute of it, and by what means. Any number of threads may call it."""

    def __init__(self, bank: AdapterBank, spec: ComparisonSpec, rank_rtol: float | None) -> None:
        self.bank, self.spec, self.rank_rtol = bank, spec, rank_rtol
        self._memory = Memory()
        self._native = runs_natively()
        self._compiled: set[tuple[Any, ...]] = set()

    def factor(
        self, key: ModuleKey, tasks: np.ndarray, plan: Plan, size: int | None = None
    ) -> FactorRows:
        """Thin SVDs of one module of up to `size` tasks, padded with zeros to so many.

        `size` is `plan.block` by default.
        """
        size = plan.block if size is None else size
        entries = [self.bank.adapters[task].entry(key) for task in tasks]
        rtol = self._rtol(entries)
        if not self._native or self.spec.dtype != "float32":
            return self._factor_compiled(key, tasks, rtol, plan, size)
        found = self._factor_natively(entries, rtol, plan, size)
        if not found.fine.all():
            # Ill-conditioned ones again, with care.
            at = np.flatnonzero(~found.fine)
            again = self._factor_compiled(key, tasks[at], rtol[at], plan, size)
            for kept, new in zip(found[:4], again, strict=True):
                if kept is not None:
                    kept[at] = np.asarray(new)[: len(at)]
        return FactorRows(*found[:4])  # type: ignore[arg-type]  # NumPy's arrays serve as well

    @property
    def ahead(self) -> int:
        """How many groups of tiles may be under way while the next one is prepared."""
        return 0 if jax.default_backend() == "cpu" else 1

    def measure(self, tile: Tile, plan: Plan) -> dict[str, np.ndarray]:
        """`measure_tile` of the tile's pairs, [n] or [n, 2] for every variable."""
        return self.start([tile], plan)()[0]

    def start(self, tiles: Sequence[Tile], plan: Plan) -> Callable[[], list[dict[str, np.ndarray]]]:
        """Start to measure as many tiles of equal shapes as there are devices, or fewer.

        Returns:
            What waits for the numbers of each. On CPU they are there already.

        """
        arguments = [self._arguments(tile, plan) for tile in tiles]

        def launch() -> dict[str, Array]:
            if plan.devices == 1:
                return measure_tile(*arguments[0], spec=self.spec)
            return measure_side_by_side(arguments, self.spec)

        def numbers(found: dict[str, Array]) -> list[dict[str, np.ndarray]]:
            there = jax.device_get(found)
            if plan.devices == 1:
                there = {name: x[None] for name, x in there.items()}
            return [
                {k: x[n].reshape(-1, *x.shape[3:])[: len(tile.pairs)] for k, x in there.items()}
                for n, tile in enumerate(tiles)
            ]

        if self.ahead:
            return partial(numbers, launch())
        compiled = plan, *(x.s.shape for x in tiles[0][:2])
        if compiled in self._compiled and plan.side_by_side > 1:
            found = numbers(launch())
        else:
            with _ONE_AT_A_TIME:
                found = numbers(launch())
                self._compiled.add(compiled)
        return lambda: found

    def _arguments(self, tile: Tile, plan: Plan) -> tuple[Any, ...]:
        chunks, chunk = plan.steps(tile.rows.s.shape[0], tile.cols.s.shape[0])
        pairs = np.zeros((chunks * chunk, 2), np.int32)
        pairs[: len(tile.pairs)] = tile.pairs
        return (
            tile.rows,
            tile.cols,
            self.grams(tile.rows, tile.cols, plan),
            pairs.reshape(chunks, chunk, 2),
            np.int32(-(-len(tile.pairs) // chunk)),
            np.bool_(tile.diagonal),
        )

    def grams(self, rows: FactorRows, cols: FactorRows, plan: Plan) -> Grams:
        """Gram blocks of a tile, or None where its compiled program computes its own."""
        if not self._native:
            return None
        threads = native.threads() // plan.side_by_side

        def gram(X: Array | np.ndarray, Y: Array | np.ndarray) -> np.ndarray:
            X = np.asarray(X)
            Y = X if rows is cols else np.asarray(Y)
            return native.gram_rows(X, Y, threads=threads, empty=self._memory.empty)

        sides = ((rows.U, cols.U), (rows.V, cols.V))
        return tuple(None if X is None or Y is None else gram(X, Y) for X, Y in sides)

    def _rtol(self, entries: list[ModuleEntry]) -> np.ndarray:
        if self.rank_rtol is not None:
            return np.full(len(entries), self.rank_rtol)
        ranks = np.array([entry.B.shape[1] for entry in entries])
        return 4 * np.sqrt(ranks) * np.array([entry.eps for entry in entries])

    def _factor_natively(
        self, entries: list[ModuleEntry], rtol: np.ndarray, plan: Plan, size: int
    ) -> native.Factored:
        updates = [entry.load() for entry in entries]
        return native.factor_updates(
            [update.B for update in updates],
            [update.A for update in updates],
            plan.stored,
            np.array([update.scale for update in updates]),
            rtol,
            shape=(size, plan.shape.rank),
            kappa=CHOLESKY_KAPPA,
            need_u=self.spec.needs("out"),
            need_v=self.spec.needs("in"),
            threads=native.threads() // plan.side_by_side,
            empty=self._memory.empty,
        )

    def _factor_compiled(
        self, key: ModuleKey, tasks: np.ndarray, rtol: np.ndarray, plan: Plan, size: int
    ) -> FactorRows:
        stack = _padded(self.bank.stack(key, tasks), size)

        def launch() -> FactorRows:
            return factor_rows(
                stack.B,
                stack.A,
                stack.scale,
                np.resize(rtol, stack.scale.shape),
                dtype=np.dtype(self.spec.dtype),
                chunk=math.gcd(size, plan.factor_chunk),
                need_u=self.spec.needs("out"),
                need_v=self.spec.needs("in"),
            )

        if self.ahead:
            return launch()
        with _ONE_AT_A_TIME:
            return jax.block_until_ready(launch())


def _padded(stack: ModuleStack, n: int) -> ModuleStack:
    """The stack with zero updates up to n, so that a last, shorter block compiles nothing new."""
    short = n - stack.B.shape[0]
    if not short:
        return stack

    def pad(x: np.ndarray) -> np.ndarray:
        return np.concatenate([x, np.zeros((short, *x.shape[1:]), x.dtype)])

    return ModuleStack(pad(stack.B), pad(stack.A), pad(stack.scale), pad(stack.eps))
