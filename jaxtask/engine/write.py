"""A comparison that is written as it is made, and may be cut off and gone on with at any time."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jaxtask.adapters import AdapterBank, ModuleKey
from jaxtask.engine import processes, store
from jaxtask.engine.draft import Draft
from jaxtask.engine.identity import attributes, changed, differences, digests, settings
from jaxtask.engine.job import Counter, Job, numerics, pairs_of
from jaxtask.engine.plan import Plan, default_budget
from jaxtask.engine.result import layout, values
from jaxtask.engine.sweep import ModuleResult, plans, sweep
from jaxtask.errors import AdapterError, ResultError
from jaxtask.text_files import parse_json

_POLL_SECONDS = 0.1


def write(job: Job, path: Path, *, overwrite: bool = False, append: bool = False) -> None:
    """Compare, and leave the result at `path`.

    What an earlier call of the same has left is gone on with. Under `jax.distributed` all processes
    call this alike, and see the same folders.

    Raises:
        ResultError: See `compare`.

    """
    draft = Draft(path)
    with ExitStack() as lock:

        def prepare() -> bool:
            store.check_place(path)
            lock.enter_context(_writing(draft))
            return _prepare(job, draft, overwrite=overwrite, append=append)

        go = processes.first(prepare)
        if go:
            if not processes.leads():
                lock.enter_context(draft.writing(alone=False))
            with _kept(draft):
                _work(job, draft)
        if processes.leads():
            with _disk(draft):
                if go:
                    draft.finish()
                elif draft.manifest() is None:
                    draft.remove()
    while go and not draft.ended():
        draft.check_others()
        time.sleep(_POLL_SECONDS)


# ------------------------------------------------------------------------- what comes out as it was


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
                f"the {done} modules that are done stay in {draft.folder}; the same call goes on"
            )
        elif processes.leads():
            draft.remove()
        raise


@contextmanager
def _disk(draft: Draft) -> Iterator[None]:
    """A full disk, or another reason not to write, as one clear error."""
    try:
        yield
    except OSError as error:
        raise ResultError(f"cannot write {draft.target}: {error.strerror or error}") from error


# ------------------------------------------------------------------------------------------ prepare


def _prepare(job: Job, draft: Draft, *, overwrite: bool, append: bool) -> bool:
    """Have the draft there, begun or as an earlier process left it; False if nothing is to do."""
    draft.recover()
    store.check_target(draft.target, overwrite=overwrite, append=append)
    attrs = attributes(job.bank, job.program, job.rank_rtol, job.command)
    numbers = digests(job.bank)
    bank, known = job.bank, 0
    if append:
        there = store.open_result(draft.target)
        _check_can_join(draft.target, there.attrs, attrs, numbers)
        bank, known = in_order_of(there, bank)
        if len(bank.tasks) == known:
            return False
    begun = draft.manifest()
    budget = job.memory_budget
    if budget is None:
        budget = default_budget() if begun is None else begun["budget"]
    made = plans(bank, job.program, budget, known)
    adapters = {task: numbers[task] for task in bank.tasks}
    identity = _identity(attrs, made, known)
    if begun is not None:
        told = _what_differs(begun, identity, adapters)
        if not told:
            draft.check()
            draft.share()
            return True
        if not overwrite:
            anew = "remove it" if append else "give overwrite=True"
            raise ResultError(
                f"{draft.folder} holds an unfinished comparison that is not this one ({told}); "
                f"{anew} to start anew"
            )
    with _disk(draft):
        draft.clear()
        shape = layout(bank, job.program)
        attrs |= {"variables": list(shape.variables), "digests": json.dumps(adapters)}
        store.create(draft.result, shape, attrs)
        draft.begin({"identity": identity, "adapters": adapters, "budget": budget, "known": known})
    draft.share()
    return True


def in_order_of(there: Any, bank: AdapterBank) -> tuple[AdapterBank, int]:
    """The bank with the tasks of a result first, in its order, and how many these are."""
    known = [str(task) for task in there["task"].values]
    if gone := changed(dict.fromkeys(known, ""), dict.fromkeys(bank.tasks, "")):
        raise ResultError(f"all adapters of a result must be given to add others to it; {gone}")
    added = [task for task in bank.tasks if task not in set(known)]
    return bank.reordered([*known, *added]), len(known)


def _check_can_join(
    path: Path, there: dict[str, Any], now: dict[str, Any], numbers: dict[str, str]
) -> None:
    if "digests" not in there:
        raise ResultError(
            f"{path}: it is not recorded what its adapters held, so none can be added; only "
            "results that `compare` has written itself say that"
        )
    told = [
        changed(parse_json(there["digests"], f"{path}, attribute digests", ResultError), numbers),
        differences(settings(there), settings(now)),
    ]
    if any(told):
        raise ResultError(
            f"adapters can only be added to {path} with everything else as it was: "
            f"{'; '.join(filter(None, told))}"
        )


def _identity(attrs: dict[str, Any], made: dict[ModuleKey, Plan], known: int) -> dict[str, Any]:
    """All but the adapters' numbers that decides the bits, as JSON gives it back."""
    cut = {(*plan.shape, str(plan.stored), *plan.cut) for plan in made.values()}
    found = settings(attrs) | {
        "tasks known": known,
        "modules": sorted(made),
        "cut": sorted(cut),
    }
    return json.loads(json.dumps(found))


def _what_differs(begun: dict[str, Any], identity: dict[str, Any], adapters: dict[str, str]) -> str:
    new = [task for task in adapters if task not in begun["adapters"]]
    told = [
        changed(begun["adapters"], adapters),
        f"not in it: {', '.join(new)}" if new else "",
        differences(begun["identity"], identity),
    ]
    if not any(told) and list(begun["adapters"]) != list(adapters):
        told = ["the adapters come in another order"]
    return "; ".join(filter(None, told))


# --------------------------------------------------------------------------------------------- work


def _work(job: Job, draft: Draft) -> None:
    """Compute and write this process's share of what is not yet there."""
    begun = draft.manifest()
    assert begun is not None
    bank, known = _agreed(job, begun)
    made = plans(bank, job.program, begun["budget"], known)
    attrs = attributes(bank, job.program, job.rank_rtol, job.command)
    if told := differences(begun["identity"], _identity(attrs, made, known)):
        raise ResultError(f"the processes of one comparison must be alike: {told}")
    number = {key: n for n, key in enumerate(bank.modules)}
    done = draft.done()
    own = processes.share(list(made))
    left = {key: made[key] for key in own if number[key] not in done}
    total, still = (sum(pairs_of(bank, key, known) for key in keys) for keys in (own, left))
    tick = Counter(job.progress, total, total - still)
    shape = layout(bank, job.program)
    arrays = store.variables(draft.result, shape)
    component = len(shape.coords.get("component", ()))
    old = store.open_result(draft.target) if known else None

    def keep(result: ModuleResult) -> None:
        found = values(result, job.program, component)
        if old is not None:
            _fill_in(found, old, result.key)
        with _disk(draft):
            sizes = store.write_module(draft.result, arrays, shape.where(result.key), found)
            draft.mark(number[result.key], sizes)

    with numerics(), ThreadPoolExecutor(1, "jaxtask-writer") as writer:
        last: Future[None] | None = None
        for result in sweep(bank, job.program, left, job.rank_rtol, tick, known):
            if last is not None:
                last.result()
            last = writer.submit(keep, result)
        if last is not None:
            last.result()
    while processes.leads() and len(draft.done()) < len(number):
        draft.check_others()
        time.sleep(_POLL_SECONDS)


def _agreed(job: Job, begun: dict[str, Any]) -> tuple[AdapterBank, int]:
    """The bank in the order of the draft, and how many tasks are known."""
    tasks = list(begun["adapters"])
    if sorted(tasks) != sorted(job.bank.tasks):
        raise ResultError("the processes of one comparison must be given the same adapters")
    return job.bank.reordered(tasks), begun["known"]


def _fill_in(found: dict[str, np.ndarray], old: Any, key: ModuleKey) -> None:
    """What the result that is added to has of this module."""
    layer, module = key
    if layer in old["layer"].values and module in old["module"].values:
        tasks = {name: value for name, value in found.items() if value.ndim}
        for name, value in tasks.items():
            part = old[name].sel(layer=layer, module=module).values
            value[tuple(map(slice, part.shape))] = part
