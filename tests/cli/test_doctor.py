"""`jaxtask doctor`: what it says of backends, and when it says that something is broken."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from typer.testing import CliRunner

from jaxtask.cli import doctor
from jaxtask.cli.main import app
from jaxtask_kernels import backends, native

ROOT = Path(__file__).parents[2]


def run(*arguments):
    return CliRunner().invoke(app, ["doctor", *arguments])


def report():
    done = run("--json")
    return done.exit_code, json.loads(done.stdout)


def test_what_is_active_here():
    code, found = report()
    assert (code, found["problems"]) == (0, [])
    assert found["devices"] == [f"{d.platform}:{d.id} {d.device_kind}" for d in jax.devices()]
    assert found["jaxlib"] == jax.lib.__version__
    assert native.native().about in found["native library"]
    assert found["stages"] == backends.stages(jax.default_backend())
    assert found["threads"]["native library"] == native.threads()
    assert set(found["optional packages"]) == {"gguf", "pyarrow", "torch"}
    shown = run()
    assert shown.exit_code == 0
    assert "nothing is broken" in shown.stdout
    assert found["native library"] in shown.stdout


def in_a_process(**env):
    code = "import sys; sys.argv = ['jaxtask', 'doctor', '--json']; import jaxtask.__main__"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": paths} | env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, json.loads(done.stdout)


@pytest.mark.process
@pytest.mark.slow
def test_left_out_and_a_setting_that_says_nothing():
    code, found = in_a_process(JAXTASK_NATIVE="0", JAX_ENABLE_X64="1", OMP_NUM_THREADS="1")
    assert code == 0
    assert found["native library"] == "none: JAXTASK_NATIVE=0 is set"
    assert set(found["stages"].values()) == {"XLA", "LAPACK"}
    assert found["x64"] == "enabled"
    assert found["threads"]["native library"] == 1
    code, found = in_a_process(JAXTASK_NATIVE="avx1024", JAX_COMPILATION_CACHE_DIR="cache")
    assert code == 1
    assert found["compile cache"] == "cache"
    (problem,) = found["problems"]
    assert problem == "JAXTASK_NATIVE=avx1024 is unknown, expected one of 0, baseline, avx2"


@pytest.mark.process
def test_a_jax_that_does_not_start():
    code, found = in_a_process(JAX_PLATFORMS="no_such_platform")
    assert code == 1
    assert "JAX does not start with JAX_PLATFORMS='no_such_platform': " in found["problems"][0]


def test_a_library_that_cannot_be_loaded(monkeypatch, tmp_path):
    (tmp_path / f"_native{native.EXTENSION_SUFFIXES[0]}").write_bytes(b"of another machine")
    monkeypatch.setattr(native, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.delenv("JAXTASK_NATIVE", raising=False)
    there = native.native.__wrapped__()
    assert there.broken
    jax.clear_caches()
    monkeypatch.setattr(native, "native", lambda: there)
    code, found = report()
    jax.clear_caches()
    assert code == 1
    (problem,) = found["problems"]
    assert "cannot be loaded" in problem
    assert found["native library"].startswith("none: ")


@pytest.mark.parametrize("has", [(0, 0), (1, 0)])
def test_a_library_for_another_jaxlib(monkeypatch, has):
    """Left out before JAX starts, which it would not do with handlers for a newer version."""
    if native.native().library is None:
        pytest.skip(f"no native library: {native.native().about}")
    registered = []
    monkeypatch.setattr(native.jax.ffi, "register_ffi_target", lambda *a, **_: registered.append(a))
    monkeypatch.setattr(native, "_interface", lambda: has)
    there = native.native.__wrapped__()
    assert (there.library, there.broken, registered) == (None, True, [])
    assert f"has {has[0]}.{has[1]}: install jaxtask again" in there.about


@pytest.mark.parametrize("bad", ["0.10.2"])
def test_the_excluded_jaxlib(monkeypatch, bad):
    monkeypatch.setattr(doctor, "_version", lambda name: bad)
    code, found = report()
    assert code == 1
    assert found["problems"] == [f"jaxlib {bad} returns wrong sums on CPU: install another version"]


def test_wrong_results_are_broken(monkeypatch):
    from jaxtask_kernels import singular_values as right

    monkeypatch.setattr("jaxtask_kernels.singular_values", lambda G: right(G) * 1.001)
    code, found = report()
    assert code == 1
    assert "singular values are off by" in found["problems"][0]
