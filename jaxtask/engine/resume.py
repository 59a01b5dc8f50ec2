"""What may be gone on with or added to: two results agree in all that decides their bits.

The settings are among the attributes of a result; of the adapters, digests of their numbers count.
"""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxtask.adapters import Adapter, AdapterBank
from jaxtask.engine import zarr_store as store
from jaxtask.engine.plan import default_budget
from jaxtask.engine.prepare import Comparison
from jaxtask.engine.staging import Draft, disk_errors
from jaxtask.errors import ResultError
from jaxtask.text_files import parse_json
from jaxtask_kernels.native import threads

SETTINGS = (
    *("metrics", "sides", "keep", "dtype", "padding", "rank_rtol"),
    *("versions", "device", "native", "kernels"),
)
"""The attributes of a result that must be equal for its numbers to be, besides the adapters."""

_MAY_LACK = ("kernels",)
"""Those that results and drafts of earlier versions do not have; `native` tells as much of them."""


def begin(
    comparison: Comparison, draft: Draft, *, overwrite: bool, append: bool
) -> Comparison | None:
    """Have the draft there, begun or as an earlier process left it.

    Reads all adapters. The draft is held alone, and shared in the end.

    Returns:
        The comparison in the order, and of what is left to do, that the draft is of; None if there
        is nothing to do.

    Raises:
        ResultError: See `compare`.

    """
    draft.recover()
    store.check_target(draft.target, overwrite=overwrite, append=append)
    numbers = digests(comparison.bank)
    if append:
        there = store.open_result(draft.target)
        _check_can_join(draft.target, there.attrs, comparison.attributes, numbers)
        comparison = added_to(there, comparison)
        if len(comparison.bank.tasks) == comparison.known:
            return None
    begun = draft.manifest()
    if comparison.budget is None:
        budget = default_budget() if begun is None else begun["budget"]
        comparison = replace(comparison, budget=budget)
    adapters = {task: numbers[task] for task in comparison.bank.tasks}
    identity = _identity(comparison)
    told = "" if begun is None else _what_differs(begun, identity, adapters)
    if begun is not None and not told:
        draft.check()
    elif begun is not None and not overwrite:
        anew = "remove it" if append else "give overwrite=True"
        raise ResultError(
            f"{draft.folder} holds another unfinished comparison ({told}); {anew} to start over"
        )
    else:
        with disk_errors(draft.target):
            draft.clear()
            attrs = {**comparison.attributes, "variables": list(comparison.layout.variables)}
            attrs["digests"] = json.dumps(adapters)
            store.create(draft.result, comparison.layout, attrs)
            draft.begin(
                {"identity": identity, "adapters": adapters}
                | {"budget": comparison.budget, "known": comparison.known}
            )
    draft.share()
    return comparison


def join(comparison: Comparison, draft: Draft) -> Comparison:
    """The comparison as another process has begun it.

    Raises:
        ResultError: The comparison is another one.

    """
    begun = draft.manifest()
    assert begun is not None
    tasks = list(begun["adapters"])
    if sorted(tasks) != sorted(comparison.bank.tasks):
        raise ResultError("the processes of one comparison must be given the same adapters")
    bank = comparison.bank.reordered(tasks)
    joined = replace(comparison, bank=bank, known=begun["known"], budget=begun["budget"])
    if told := _differences(begun["identity"], _identity(joined)):
        raise ResultError(f"the processes of one comparison must have the same settings: {told}")
    return joined


def added_to(there: Any, comparison: Comparison) -> Comparison:
    """The comparison with the tasks of a result first, in its order, and known.

    Raises:
        ResultError: One of these is not among the adapters.

    """
    known, bank = [str(task) for task in there["task"].values], comparison.bank
    if gone := _changed(dict.fromkeys(known, ""), dict.fromkeys(bank.tasks, "")):
        raise ResultError(f"all adapters of a result must be given to add others to it; {gone}")
    added = [task for task in bank.tasks if task not in set(known)]
    return replace(comparison, bank=bank.reordered([*known, *added]), known=len(known))


def digests(bank: AdapterBank) -> dict[str, str]:
    """A digest of the numbers of every adapter, by task. Reads all files."""
    with ThreadPoolExecutor(threads()) as pool:
        found = pool.map(Adapter.digest, bank.adapters)
        return dict(zip(bank.tasks, found, strict=True))


# ------------------------------------------------------------------------------- what is the same


def _settings(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the attributes that must be equal."""
    found = {name: attrs.get(name) for name in SETTINGS}
    versions = parse_json(attrs.get("versions", "{}"), "attribute versions", ResultError)
    versions.pop("python", None)  # changes no number
    return found | {"versions": versions}


def _identity(comparison: Comparison) -> dict[str, Any]:
    """All but the adapters' numbers that decides the bits, as JSON gives it back."""
    made = comparison.plans
    cut = {(*plan.shape, str(plan.stored), *plan.cut) for plan in made.values()}
    found = _settings(comparison.attributes) | {
        "tasks known": comparison.known,
        "modules": sorted(made),
        "cut": sorted(cut),
    }
    return json.loads(json.dumps(found))


def _check_can_join(
    path: Path, there: Mapping[str, Any], now: Mapping[str, Any], numbers: dict[str, str]
) -> None:
    if "digests" not in there:
        raise ResultError(
            f"{path}: it is not recorded what its adapters held, so none can be added; only "
            "results that `compare` has written itself say that"
        )
    told = [
        _changed(parse_json(there["digests"], f"{path}, attribute digests", ResultError), numbers),
        _differences(_settings(there), _settings(now)),
    ]
    if any(told):
        raise ResultError(
            f"adapters can only be added to {path} with the same settings: "
            f"{'; '.join(filter(None, told))}"
        )


def _what_differs(begun: dict[str, Any], identity: dict[str, Any], adapters: dict[str, str]) -> str:
    new = [task for task in adapters if task not in begun["adapters"]]
    told = [
        _changed(begun["adapters"], adapters),
        f"not in it: {', '.join(new)}" if new else "",
        _differences(begun["identity"], identity),
    ]
    if not any(told) and list(begun["adapters"]) != list(adapters):
        told = ["the adapters come in another order"]
    return "; ".join(filter(None, told))


def _differences(there: dict[str, Any], now: dict[str, Any]) -> str:
    """What of `there` is not so now, in words; empty if all is."""
    lacking = {name for name in _MAY_LACK if there.get(name) is None}
    return "; ".join(
        f"{name} {_short(there.get(name))} there, {_short(now.get(name))} now"
        for name in {**there, **now}
        if there.get(name) != now.get(name) and name not in lacking
    )


def _changed(there: dict[str, str], now: dict[str, str]) -> str:
    """Which adapters of `there` are gone or hold other numbers now, in words; empty if none."""
    gone = [name for name in there if name not in now]
    other = [name for name in there if name in now and there[name] != now[name]]
    told = [f"not given: {_some(gone)}"] if gone else []
    return "; ".join(told + ([f"with other numbers: {_some(other)}"] if other else []))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
