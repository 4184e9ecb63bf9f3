# `make compare` and `make test` need nothing but Python 3.11 or newer: they make the environment first.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN_DIR ?= runs/compare
PRESET ?= quick

.PHONY: help native compare test test-all test-smoke lint types contracts race chaos check clean

help:
	@echo "make compare   train the six rungs on the pronouncing dictionary; table and pictures in $(RUN_DIR)"
	@echo "               (PRESET=standard trains to convergence; RUN_DIR=... chooses another folder;"
	@echo "               a second time: ARGS=--resume resumes, ARGS=--overwrite starts again)"
	@echo "make test      every contract, command and promise once, some 20 minutes on two cores"
	@echo "               (ARGS='tests/nn -k cache' chooses tests, as for pytest)"
	@echo "make test-all  the same with the full product of cases, fuzzing and long runs"
	@echo "make test-smoke the few tests that are repeated on another Python"
	@echo "make lint      ruff: style and formatting"
	@echo "make types     mypy"
	@echo "make contracts import contracts: which package may import which"
	@echo "make chaos     inject faults into training runs at 200 places and compare their results, some 25 minutes"
	@echo "make check     lint, types and contracts"
	@echo "make race      race recurrent networks against Transformers; tables, report.html, figures in runs/race"
	@echo "make native    compile the kernels in C++ for the CPU (compare and race do so, too)"
	@echo "make clean     remove the environment and caches (runs/ stays)"

# One stamp file an extra: reinstall only when pyproject.toml changes.
$(VENV)/.stamp-%: pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: '$(PYTHON)' not found: install Python 3.11 or newer (Debian: apt-get install python3 python3-venv), or say make PYTHON=/path/to/python" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed, '$(PYTHON)' is $$($(PYTHON) -V); say make PYTHON=/path/to/python" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "error: the venv module of '$(PYTHON)' is missing (Debian: apt-get install python3-venv)" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing transformer-jax[$*] into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[$*]"
	@touch $@

# Kernels in C++ for attention on the CPU, where a compiler is found; without one everything works as before.
native: $(VENV)/.stamp-cli
	@$(BIN)/transformer-jax native build || echo "going on without the native library"

compare: native
	$(BIN)/transformer-jax compare --preset $(PRESET) --run-dir $(RUN_DIR) $(ARGS)

race: native
	$(BIN)/transformer-jax race $(ARGS)

chaos: $(VENV)/.stamp-cli
	$(BIN)/python tests/chaos/chaos.py $(ARGS)

PYTEST := $(BIN)/python -m pytest --durations=40

test: $(VENV)/.stamp-test
	$(PYTEST) -m "not full" $(ARGS)

test-all: $(VENV)/.stamp-test
	$(PYTEST) $(ARGS)

test-smoke: $(VENV)/.stamp-test
	$(PYTEST) -m smoke $(ARGS)

lint: $(VENV)/.stamp-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.stamp-dev
	$(BIN)/mypy

contracts: $(VENV)/.stamp-dev
	$(BIN)/lint-imports

check: lint types contracts

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
