# Every target sets itself up: virtual environment, torch first, then the rest at the tested versions.
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= dev
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-fast test-core test-lowest coverage lint types benchmark clean

help:            ## Show this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/: .*##/\t/'

quickstart: $(INSTALLED)  ## Distill three students from a real teacher on real data (a coffee break on 2 cores)
	$(BIN)/python examples/quickstart.py

test: $(INSTALLED)  ## Run the test suite
	$(PYTEST)

test-fast: $(INSTALLED)  ## Run the tests that are quick and need no download (a minute and a half on 2 cores)
	$(PYTEST) -m "not slow and not real_data"

test-core:       ## Run the quick tests that need no extra, in an environment with the core alone
	$(PYTHON) -m venv $(VENV)-core
	$(VENV)-core/bin/pip install --quiet --constraint constraints.txt torch
	$(VENV)-core/bin/pip install --quiet --constraint constraints.txt --editable . pytest pytest-xdist
	$(VENV)-core/bin/python -m pytest -n 2 --dist loadfile --without-extras -m "not slow and not real_data"

test-lowest:     ## Run the quick tests with the lowest supported versions of all requirements
	$(PYTHON) -m venv $(VENV)-lowest
	$(PYTHON) tests/lowest_versions.py > $(VENV)-lowest/constraints.txt
	$(VENV)-lowest/bin/pip install --quiet --constraint $(VENV)-lowest/constraints.txt torch
	$(VENV)-lowest/bin/pip install --quiet --constraint $(VENV)-lowest/constraints.txt --editable '.[dev]'
	$(VENV)-lowest/bin/python -m pytest -n 2 --dist loadfile -m "not slow and not real_data"

coverage: $(INSTALLED)  ## Run the test suite and list the lines it does not reach
	$(PYTEST) --cov --cov-report=term-missing

lint: types  ## Check types, style, docstrings and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pydoclint --quiet hf_distill
	$(BIN)/hadolint Dockerfile

types: $(INSTALLED)  ## Check types
	$(BIN)/mypy

benchmark: $(INSTALLED)  ## Measure trainer overhead and student quality (see benchmarks/)
	$(BIN)/python benchmarks/trainer_overhead.py
	$(BIN)/python benchmarks/quality_movie_reviews.py

clean:  ## Remove the virtual environment and all outputs
	rm -rf $(VENV) $(VENV)-core $(VENV)-lowest outputs build dist *.egg-info

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@
