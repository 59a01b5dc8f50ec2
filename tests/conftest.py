"""Shared by all tests: worst errors by claim, and a guard against a program that never returns."""

import faulthandler
import os
import sys
from collections import defaultdict

import pytest

MINUTES = 5

# Most programs here run once or twice, so optimising them takes longer than it saves. Tests of what
# users get ask for `compile_fully`; with JAX_DISABLE_MOST_OPTIMIZATIONS=0 set, all do. It is set
# before JAX is imported and holds for processes that tests start: theirs must be the same bits.
_QUICK = "jax_disable_most_optimizations"
os.environ.setdefault(_QUICK.upper(), "1")


@pytest.fixture(scope="module")
def compile_fully():
    """Programs as users have them, from here to the end of the module."""
    import jax

    before = jax.config.values[_QUICK]
    jax.clear_caches()
    jax.config.update(_QUICK, False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(_QUICK.upper(), "0")
        yield
    jax.config.update(_QUICK, before)
    jax.clear_caches()


@pytest.fixture(autouse=True)
def never_hang():
    """End the run with all stacks if one test takes minutes: XLA cannot be interrupted."""
    stderr = sys.__stderr__
    try:
        stderr.fileno()
    except (AttributeError, OSError, ValueError):
        yield
        return
    faulthandler.dump_traceback_later(60 * MINUTES, exit=True, file=stderr)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def without_native(monkeypatch):
    """As on a machine where the native library was not built."""
    import jax

    from jaxtask_kernels import native

    jax.clear_caches()
    monkeypatch.setattr(native, "native", lambda: native.Native(None, "left out by a test"))
    yield
    jax.clear_caches()


@pytest.fixture
def on_cpu():
    """Handlers of the native library called on their own, where there may be a GPU as well."""
    import jax

    from jaxtask_kernels import native

    if native.native().library is None:
        pytest.skip(f"no native library: {native.native().about}")
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        yield


@pytest.fixture(params=["native", "compiled"])
def backend(request):
    """Both ways through the engine on CPU: the native library, and compiled programs alone."""
    import jax

    from jaxtask.engine.backend import runs_natively

    if request.param == "compiled":
        request.getfixturevalue("without_native")
    elif not runs_natively():
        pytest.skip(f"no native library in use on {jax.default_backend()}")
    return request.param


def pytest_collection_modifyitems(items):
    """Files of slow tests come first, so that no process is left with one of them at the end."""
    slow = defaultdict(list)
    for item in items:
        slow[item.path].append(item.get_closest_marker("slow") is not None)
    items.sort(key=lambda item: -sum(slow[item.path]) / len(slow[item.path]))


_worst = pytest.StashKey[dict]()


def pytest_configure(config):
    config.stash[_worst] = {}


@pytest.fixture
def within(request):
    """`within(claim, error, bound)` asserts error ≤ bound and keeps each claim's worst share."""
    table = request.config.stash[_worst]

    def check(claim, error, bound):
        error, bound = float(error), float(bound)
        share = error / bound if bound else float(error > 0)
        if claim not in table or not share <= table[claim][0]:
            table[claim] = (share, error, bound)
        assert error <= bound, f"{claim}: {error:.3g} exceeds {bound:.3g}"

    return check


def pytest_terminal_summary(terminalreporter, config):
    table = config.stash[_worst]
    if table and config.getoption("verbose") > 0:
        terminalreporter.section("worst error of each claim")
        for claim, (share, error, bound) in sorted(table.items()):
            terminalreporter.write_line(f"{share:8.2%} {error:10.2e} of {bound:9.2e}  {claim}")
