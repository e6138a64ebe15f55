# Two lines get you going: `make demo` and `make test`. Everything else is below.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
# The newest Python that the constraints were resolved for; PYTHON=/path/to/python3 overrides.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
# EXTRAS=gpu,dashboard,embedded for a machine with an NVIDIA card (never cpu and gpu together).
EXTRAS ?= cpu,dashboard,embedded
ARGS ?=
# Processes that share the tests, which wait more than they compute; JOBS=0 runs them in one.
JOBS ?= 3

help:  ## Say what there is to make
	@printf 'Usage: make TARGET [ARGS="..."]\n\n'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.run  ## Create .venv with the program at .venv/bin/tidegate

demo: $(VENV)/.run  ## Broker, worker, dashboard and a feed, on this machine; ARGS="--posts FILE ..."
	@$(BIN)/tidegate demo $(ARGS)

# A file's tests stay together, and the files that take long come first (tests/conftest.py).
test: $(VENV)/.dev  ## Every test that this machine can run; ARGS="-k name", JOBS=0 for one process
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-models: $(VENV)/.models-dev  ## The tests that need torch, training and export; use VENV=.venv-models
	@$(BIN)/python -m pytest tests/models -m models $(ARGS)

lint: $(VENV)/.dev  ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/.dev  ## mypy, strict
	@$(BIN)/mypy

bench: $(VENV)/.dev  ## Measure this machine against its limits; ARGS="stream --events 200000"
	@$(BIN)/tidegate bench $(ARGS)

chaos: $(VENV)/.dev  ## The long form of the chaos suite: kills, rebalances, broker restarts
	@$(BIN)/python -m tests.chaos $(ARGS)

model: $(VENV)/.models  ## Train, export and measure the compact model; ARGS="--data DIR --base DIR --out DIR"
	@$(BIN)/tidegate models build $(ARGS)

docs: $(VENV)/.dev  ## Write the generated parts of docs/ again
	@$(BIN)/python -m stream.schemas

lock: $(VENV)/.dev  ## Resolve constraints.txt again, for every Python and platform at once
	@$(BIN)/pip install --quiet uv
	@$(BIN)/uv pip compile --quiet --universal --upgrade --python-version 3.11 --no-annotate --no-header \
		--extra cpu --extra dashboard --extra embedded --extra postgres --extra dev --extra models pyproject.toml \
		| grep -v -E '^(nvidia-|triton|cuda-)' > constraints.txt

clean:  ## Remove the environment and every cache
	rm -rf $(VENV) .venv-models .tidegate .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo 'error: no Python 3.11 or newer on the PATH'; \
		echo ' hint: install python3.11 or newer, or name one: make PYTHON=/path/to/python3'; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo 'error: $(PYTHON) cannot make a virtual environment'; \
		echo ' hint: on Debian and Ubuntu: apt-get install python3-venv'; rm -rf $(VENV); exit 1; }

# One marker per set of packages; installed again when the list or the lock changes.
INSTALL = @echo "Installing tidegate[$(WANTED)] into $(VENV), once ..." && \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(WANTED)]" && \
	touch $@

$(VENV)/.run: WANTED = $(EXTRAS)
$(VENV)/.run: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL)

$(VENV)/.dev: WANTED = $(EXTRAS),dev
$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL)
	@touch $(VENV)/.run

$(VENV)/.models: WANTED = $(EXTRAS),models
$(VENV)/.models: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL)

$(VENV)/.models-dev: WANTED = $(EXTRAS),dev,models
$(VENV)/.models-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL)

.PHONY: help setup demo test test-models lint types bench chaos model docs lock clean
