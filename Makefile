# make demo    set up a virtual environment and compare a small family of adapters
# make test    set up and run the tests
# make parity  set up CPU torch and PEFT, and run the tests against live PEFT models
# make lint    ruff and mypy
# make bench   the engine against other tools, on this machine
#
# PYTHON chooses the interpreter (3.11 or newer): make test PYTHON=python3.12

PYTHON ?= python3
TORCH ?= torch==2.13.0

VERSION := $(shell $(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"; print("%d.%d" % sys.version_info[:2])')
ifeq ($(VERSION),)
$(error $(PYTHON) is not a Python of version 3.11 or newer; say which with PYTHON=...)
endif

VENV := .venv-$(VERSION)
PEERS := .venv-peers-$(VERSION)
PIP := -m pip --disable-pip-version-check install --quiet

.PHONY: demo test parity lint bench clean

demo: $(VENV)/core
	$(VENV)/bin/jaxtask demo --out demo

test: $(VENV)/test
	$(VENV)/bin/python -m pytest

lint: $(VENV)/dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

parity: $(PEERS)/parity
	$(PEERS)/bin/python -m pytest -m parity tests/parity

bench: $(PEERS)/bench
	$(PEERS)/bin/python -m benchmarks.pairwise

clean:
	rm -rf .venv-* demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(VENV)/core: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP) --editable .
	touch $@

$(VENV)/test: $(VENV)/core
	$(VENV)/bin/python $(PIP) --editable '.[test]'
	touch $@

$(VENV)/dev: $(VENV)/test
	$(VENV)/bin/python $(PIP) --editable '.[dev]'
	touch $@

# Apart from the rest, so that the package is tested where there is no torch. Torch comes first and by
# version, for a CPU build where pip is set up to find one.
$(PEERS)/torch: pyproject.toml
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python $(PIP) '$(TORCH)'
	touch $@

$(PEERS)/parity: $(PEERS)/torch
	$(PEERS)/bin/python $(PIP) --editable '.[test,parity]'
	touch $@

$(PEERS)/bench: $(PEERS)/torch
	$(PEERS)/bin/python $(PIP) --editable '.[bench]'
	touch $@
