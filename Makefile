# make demo       everything for a first look: .venv, installation, the demo
# make test       everything for a change: .venv, installation, linters, types, contracts, tests
# make test-all   the same with the slow tests
# PYTHON=python3.12 chooses the interpreter of a new .venv.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NEEDS_MIB := $(if $(wildcard $(STAMP)),1024,6144)
NEWEST = $(shell for name in python3 python3.13 python3.12 python3.11; do \
    "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$name"; break; }; done)
PYTHON ?= $(or $(NEWEST),python3)

.PHONY: help demo test test-all lint check clean

help:
	@sed -n 's/^# //p' Makefile

demo: $(STAMP)
	$(BIN)/sarseg demo

test: lint
	$(BIN)/python -m pytest -m "not slow"

test-all: lint
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

## says in one line what is missing before anything is made
check:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "make: error: '$(PYTHON)' is not Python 3.11 or newer: install one, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 4; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "make: error: '$(PYTHON)' comes without venv: install your system's package for it (Debian: python3-venv)" >&2; exit 4; }
	@free=$$(df -Pm . | awk 'NR == 2 {print $$4}'); test "$$free" -ge $(NEEDS_MIB) || { \
	  echo "make: error: $$free MiB are free here, the installation and the demo need $(NEEDS_MIB): free some space" >&2; exit 4; }

$(STAMP): pyproject.toml constraints.txt | check
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
