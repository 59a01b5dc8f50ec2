"""How a command ends by signals, whatever its main thread does meanwhile. Without JAX: fast."""

import os
import signal
import subprocess
import sys
import time

import pytest

TERM, INT = signal.SIGTERM, signal.SIGINT

BEGIN = """
import atexit, gc, hashlib, os, signal, sys, threading, time
from jaxtask.interrupts import Interrupts, Stopped
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
interrupts = Interrupts(grace=0.6)
interrupts.install()
interrupts.going_on("--resume goes on")
atexit.register(lambda: print("registered"))

def compute():  # for minutes, out of Python, while other threads can run: as a compiler does
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)

def ready():
    os.write(1, b"ready\\n")

try:
    {body}
except Stopped as stop:
    print(interrupts.told(stop))
    interrupts.leave(stop)
"""

BODIES = {
    "in Python": "ready()\n    while True: pass",
    "asleep": "ready(); time.sleep(60)",
    # What the collector calls cannot raise: JAX has such a callback.
    "in a callback": """def slow(*_):
        ready()
        until = time.monotonic() + 0.2
        while time.monotonic() < until: pass
    gc.callbacks.append(slow); gc.collect(); gc.callbacks.clear()
    while True: pass""",
    "in a finaliser": """class Slow:
        def __del__(self):
            ready()
            until = time.monotonic() + 0.2
            while time.monotonic() < until: pass
    Slow()
    while True: pass""",
    # As Python called by an extension module that begins: raising there can crash the process.
    "in an import of compiled code": """def begin():
        ready()
        until = time.monotonic() + 0.4
        try:
            while time.monotonic() < until: pass
        except BaseException: os._exit(1)
    begin.__code__ = begin.__code__.replace(co_qualname="ExtensionFileLoader.create_module")
    begin()
    while True: pass""",
    # Python 3.12 counts the jump of a loop as part of what stands before it. Were that the `try`,
    # it would catch what is raised in the loop too.
    "where everything is caught": """try:
        ready(); time.sleep(60)
    except: pass
    apart = True
    while True: pass""",
}


def run(body, *signals, pause=0.05):
    """(status, standard output, standard error, seconds) of a program that gets the signals."""
    root = os.pathsep.join(sys.path)
    with subprocess.Popen(
        [sys.executable, "-c", BEGIN.replace("{body}", body)],
        env={**os.environ, "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            started = time.monotonic()
            for number in signals:
                time.sleep(pause)
                process.send_signal(number)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, out, err, time.monotonic() - started


@pytest.mark.process
@pytest.mark.parametrize("number", [TERM, INT])
@pytest.mark.parametrize("body", BODIES)
def test_the_first_signal_ends_in_good_order(body, number):
    status, out, _, _ = run(BODIES[body], number)
    assert status == 128 + number
    name = {TERM: "SIGTERM", INT: "Ctrl-C"}[number]
    assert out.splitlines()[-2:] == [f"stopped by {name}; --resume goes on", "registered"]


@pytest.mark.process
def test_what_cleans_up_is_not_disturbed():
    """Longer than it takes for the signal to be served again."""
    body = """try:
        ready(); time.sleep(60)
    finally:
        until = time.monotonic() + 1.5
        while time.monotonic() < until: pass
        print("cleaned up")"""
    status, out, _, _ = run(body, TERM)
    assert (status, out.splitlines()[0]) == (143, "cleaned up")


@pytest.mark.process
def test_a_library_that_does_not_come_back():
    status, out, err, _ = run("ready(); compute()", TERM)
    assert (status, out) == (143, "")
    assert err == "\njaxtask: SIGTERM: ended at once; --resume goes on\n"


@pytest.mark.process
@pytest.mark.parametrize("body", ["ready(); compute()", "HELD"])
def test_a_second_signal_ends_at_once(body):
    held = """signal.signal(signal.SIGINT, lambda *_: None)
    ready()
    while True: time.sleep(0.01)"""
    status, _, err, _ = run(held if body == "HELD" else body, INT, INT, pause=0.2)
    assert status == 130
    assert "Ctrl-C: ended at once; --resume goes on" in err


@pytest.mark.process
def test_who_holds_a_signal_back_has_all_the_time():
    """Twice the time that is given to who does not answer."""
    body = """took = []
    before = signal.signal(signal.SIGTERM, lambda *_: took.append(1))
    ready()
    until = time.monotonic() + 1.3
    while not took or time.monotonic() < until: pass
    print("saved")
    signal.signal(signal.SIGTERM, before)
    before(signal.SIGTERM, None)"""
    status, out, _, _ = run(body, TERM)
    assert (status, out.splitlines()[0]) == (143, "saved")
