"""A comparison that is written as it is made, and may be cut off and gone on with at any time."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jaxtask.adapters import ModuleKey
from jaxtask.engine import processes
from jaxtask.engine import zarr_store as store
from jaxtask.engine.backend import numerics
from jaxtask.engine.prepare import Comparison
from jaxtask.engine.resume import begin, join
from jaxtask.engine.staging import Draft, disk_errors
from jaxtask.engine.sweep import Counter, Progress, sweep
from jaxtask.errors import AdapterError

_POLL_SECONDS = 0.1


def write(
    comparison: Comparison,
    path: Path,
    progress: Progress | None = None,
    *,
    overwrite: bool = False,
    append: bool = False,
) -> None:
    """Compare, and leave the result at `path`.

    What an earlier call of the same has left is gone on with. Under `jax.distributed` all processes
    call this alike, and see the same folders.

    Raises:
        ResultError: See `compare`.

    """
    draft = Draft(path)
    begun: Comparison | None = None
    with ExitStack() as lock:

        def prepare() -> bool:
            nonlocal begun
            store.check_place(path)
            lock.enter_context(_writing(draft))
            begun = begin(comparison, draft, overwrite=overwrite, append=append)
            return begun is not None

        go = processes.first(prepare)
        if go:
            if not processes.leads():
                lock.enter_context(draft.writing(alone=False))
            with _kept(draft):
                _work(begun or join(comparison, draft), draft, progress)
        if processes.leads():
            with disk_errors(path):
                if go:
                    draft.finish()
                elif draft.manifest() is None:
                    draft.remove()
    while go and not draft.ended():
        draft.check_others()
        time.sleep(_POLL_SECONDS)


@contextmanager
def _writing(draft: Draft) -> Iterator[None]:
    """Hold the lock alone; a folder that was made for it alone does not stay."""
    with draft.writing(alone=True):
        try:
            yield
        except BaseException:
            if draft.folder.exists() and draft.manifest() is None:
                draft.remove()
            raise


@contextmanager
def _kept(draft: Draft) -> Iterator[None]:
    """If the work ends badly, the draft stays where that spares some of it."""
    try:
        yield
    except BaseException as error:
        draft.stop()
        done = len(draft.done())
        # Adapters that turn out to be damaged will be others when they are repaired.
        if done and not isinstance(error, AdapterError):
            error.add_note(
                f"the {done} modules that are done stay in {draft.folder}; the same call resumes"
            )
        elif processes.leads():
            draft.remove()
        raise


def _work(comparison: Comparison, draft: Draft, progress: Progress | None) -> None:
    """Compute and write this process's share of what is not yet there."""
    number = {key: n for n, key in enumerate(comparison.bank.modules)}
    done = draft.done()
    own = processes.share(list(comparison.plans))
    left = [key for key in own if number[key] not in done]
    total, still = comparison.pairs(own), comparison.pairs(left)
    tick = Counter(progress, total, total - still)
    arrays = store.variables(draft.result, comparison.layout)
    old = store.open_result(draft.target) if comparison.known else None

    def keep(key: ModuleKey, found: dict[str, np.ndarray]) -> None:
        if old is not None:
            _fill_in(found, old, key)
        with disk_errors(draft.target):
            at = comparison.layout.where(key)
            draft.mark(number[key], store.write_module(draft.result, arrays, at, found))

    with numerics(), ThreadPoolExecutor(1, "jaxtask-writer") as writer:
        last: Future[None] | None = None
        for key, found in sweep(comparison, left, tick):
            if last is not None:
                last.result()
            last = writer.submit(keep, key, found)
        if last is not None:
            last.result()
    while processes.leads() and len(draft.done()) < len(number):
        draft.check_others()
        time.sleep(_POLL_SECONDS)


def _fill_in(found: dict[str, np.ndarray], old: Any, key: ModuleKey) -> None:
    """What the result that is added to has of this module."""
    layer, module = key
    if layer in old["layer"].values and module in old["module"].values:
        tasks = {name: value for name, value in found.items() if value.ndim}
        for name, value in tasks.items():
            part = old[name].sel(layer=layer, module=module).values
            value[tuple(map(slice, part.shape))] = part
