"""A comparison that is written as it is made, and may be cut off and gone on with at any time.

And what decides the bits of a result, by which it is told that two results have it in common.
"""

import hashlib
import json
import platform
import re
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

from jaxtask.adapters import Adapter, AdapterBank, ModuleKey
from jaxtask.engine import processes
from jaxtask.engine import zarr_store as store
from jaxtask.engine.job import Counter, Job, numerics, pairs_of
from jaxtask.engine.plan import Plan, default_budget
from jaxtask.engine.schema import layout, values
from jaxtask.engine.spec import ComparisonSpec
from jaxtask.engine.staging import Draft
from jaxtask.engine.sweep import ModuleResult, plans, sweep
from jaxtask.errors import AdapterError, ResultError
from jaxtask.metrics import METRICS, Metric, Pair, Side
from jaxtask.text_files import parse_json
from jaxtask.version import __version__
from jaxtask_kernels.backends import stages
from jaxtask_kernels.native import native, threads

SETTINGS = (
    *("metrics", "sides", "keep", "dtype", "padding", "rank_rtol"),
    *("versions", "device", "native", "kernels"),
)
"""The attributes of a result that must be equal for its numbers to be, besides the adapters."""


def attributes(
    bank: AdapterBank, spec: ComparisonSpec, rank_rtol: float | None, command: str | None
) -> dict[str, Any]:
    """What one must know to read the numbers, and to get them again."""
    return {
        "versions": json.dumps(
            {m.__name__: m.__version__ for m in (jax, jaxlib, np)}
            | {"jaxtask": __version__, "python": platform.python_version()}
        ),
        "device": f"{jax.default_backend()}: {jax.devices()[0].device_kind}",
        "native": native().about,
        "kernels": "; ".join(f"{what}: {name}" for what, name in stages(jax.default_backend()).items()),
        "dtype": spec.dtype,
        "metrics": json.dumps({metric.name: _recipe(metric) for metric in spec.metrics}),
        "sides": ",".join(spec.sides),
        "keep": ",".join(spec.keep),
        "padding": spec.padding,
        "rank_rtol": "4*sqrt(r)*eps" if rank_rtol is None else rank_rtol,
        "convention": "source is ΔW₁ (spaces and S₁), target is ΔW₂; angles in radians",
        "base_model": bank.base_model or "",
        "adapters": json.dumps(bank.describe()),
        "command": command or "",
    }


def settings(attrs: dict[str, Any]) -> dict[str, Any]:
    """Those of the attributes that must be equal."""
    found = {name: attrs.get(name) for name in SETTINGS}
    versions = parse_json(attrs.get("versions", "{}"), "attribute versions", ResultError)
    versions.pop("python", None)  # changes no number
    return found | {"versions": versions}


def digests(bank: AdapterBank) -> dict[str, str]:
    """A digest of the numbers of every adapter, by task. Reads all files."""
    with ThreadPoolExecutor(threads()) as pool:
        found = pool.map(Adapter.digest, bank.adapters)
        return dict(zip(bank.tasks, found, strict=True))


def differences(there: dict[str, Any], now: dict[str, Any]) -> str:
    """What of `there` is not so now, in words; empty if all is."""
    return "; ".join(
        f"{name} {_short(there.get(name))} there, {_short(now.get(name))} now"
        for name in {**there, **now}
        if there.get(name) != now.get(name)
    )


def changed(there: dict[str, str], now: dict[str, str]) -> str:
    """Which adapters of `there` are gone or hold other numbers now, in words; empty if none."""
    gone = [name for name in there if name not in now]
    other = [name for name in there if name in now and there[name] != now[name]]
    told = [f"not given: {_some(gone)}"] if gone else []
    return "; ".join(told + ([f"with other numbers: {_some(other)}"] if other else []))


def _recipe(metric: Metric) -> str:
    """A digest of what a user's metric computes, as JAX writes it down; none for the package's."""
    if METRICS.get(metric.name) == metric:
        return ""
    vector, matrix, rank = _array(2), _array(2, 2), _array(dtype=jnp.int32)
    side = Side(matrix, vector, rank, rank, matrix)
    pair = Pair(vector, vector, rank, rank, side, side)
    written = str(jax.make_jaxpr(metric)(side if metric.sided else pair))
    # Functions that JAX cannot look into are written with their place in memory.
    written = f"{metric.symmetric} {re.sub('0x[0-9a-f]+', '', written)}"
    return hashlib.sha256(written.encode()).hexdigest()[:16]


def _array(*shape: int, dtype: Any = jnp.float32) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


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
                f"the {done} modules that are done stay in {draft.folder}; the same call resumes"
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
    attrs = attributes(job.bank, job.spec, job.rank_rtol, job.command)
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
    made = plans(bank, job.spec, budget, known)
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
        shape = layout(bank, job.spec)
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
    made = plans(bank, job.spec, begun["budget"], known)
    attrs = attributes(bank, job.spec, job.rank_rtol, job.command)
    if told := differences(begun["identity"], _identity(attrs, made, known)):
        raise ResultError(f"the processes of one comparison must be alike: {told}")
    number = {key: n for n, key in enumerate(bank.modules)}
    done = draft.done()
    own = processes.share(list(made))
    left = {key: made[key] for key in own if number[key] not in done}
    total, still = (sum(pairs_of(bank, key, known) for key in keys) for keys in (own, left))
    tick = Counter(job.progress, total, total - still)
    shape = layout(bank, job.spec)
    arrays = store.variables(draft.result, shape)
    component = len(shape.coords.get("component", ()))
    old = store.open_result(draft.target) if known else None

    def keep(result: ModuleResult) -> None:
        found = values(result, job.spec, component)
        if old is not None:
            _fill_in(found, old, result.key)
        with _disk(draft):
            sizes = store.write_module(draft.result, arrays, shape.where(result.key), found)
            draft.mark(number[result.key], sizes)

    with numerics(), ThreadPoolExecutor(1, "jaxtask-writer") as writer:
        last: Future[None] | None = None
        for result in sweep(bank, job.spec, left, job.rank_rtol, tick, known):
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
