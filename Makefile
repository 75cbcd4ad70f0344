# Every target sets itself up: virtual environment, torch first, then the rest at the tested versions.
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= dev
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
CORE := $(VENV)-core
LOWEST := $(VENV)-lowest
DOCS := $(VENV)-docs
PYTEST := python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
FAST := -m "not slow and not real_data"

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-fast test-core test-lowest coverage lint types docs benchmark release-check clean

help:            ## Show this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/: .*##/\t/'

quickstart: $(INSTALLED)  ## Distill three students from a real teacher on real data (a coffee break on 2 cores)
	$(BIN)/python examples/quickstart.py

test: $(INSTALLED)  ## Run the test suite
	$(BIN)/$(PYTEST)

test-fast: $(INSTALLED)  ## Run the tests that are quick and need no download (a minute and a half on 2 cores)
	$(BIN)/$(PYTEST) $(FAST)

test-core: $(CORE)/.installed  ## Run the quick tests that need no extra, where nothing but the core is installed
	$(CORE)/bin/$(PYTEST) $(FAST) --without-extras

test-lowest: $(LOWEST)/.installed  ## Run the quick tests with the lowest versions of setup.cfg (gigabytes: torch is that of PyPI)
	$(LOWEST)/bin/$(PYTEST) $(FAST)

coverage: $(INSTALLED)  ## Run the test suite and list the lines it does not reach
	$(BIN)/$(PYTEST) --cov --cov-report=term-missing

lint: types  ## Check types, style, docstrings and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pydoclint --quiet hf_distill
	$(BIN)/hadolint Dockerfile

types: $(INSTALLED)  ## Check types
	$(BIN)/mypy

docs: $(DOCS)/.installed  ## Build the documentation site into site/; every warning is an error
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(DOCS)/bin/mkdocs build --quiet --strict

benchmark: $(INSTALLED)  ## Measure trainer overhead and student quality (see benchmarks/)
	$(BIN)/python benchmarks/trainer_overhead.py
	$(BIN)/python benchmarks/quality_movie_reviews.py

# FULL="3.11 3.12" installs everything in these Pythons only, and the others resolve the requirements. CHECK_LOWEST=no leaves out the
# lowest versions, as where PIP_CONSTRAINT names a torch without CUDA.
release-check:  ## Build wheel and sdist, and use them in every supported Python (gigabytes; see tests/release_check.py)
	$(PYTHON) tests/release_check.py $(if $(FULL),--full $(FULL)) $(if $(filter no,$(CHECK_LOWEST)),--no-lowest)

clean:  ## Remove the virtual environments and all outputs
	rm -rf $(VENV) $(CORE) $(LOWEST) $(DOCS) outputs site build dist *.egg-info

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

$(CORE)/.installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(CORE)
	$(CORE)/bin/pip install --quiet --constraint constraints.txt torch
	$(CORE)/bin/pip install --quiet --constraint constraints.txt --editable . pytest pytest-xdist
	touch $@

$(DOCS)/.installed: setup.cfg constraints.txt
	$(PYTHON) -m venv --clear $(DOCS)
	sed -n '/^docs =/,/^[^ ]* =/s/^    //p' setup.cfg > $(DOCS)/requirements.txt
	$(DOCS)/bin/pip install --quiet --constraint constraints.txt --requirement $(DOCS)/requirements.txt
	touch $@

$(LOWEST)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv --clear $(LOWEST)
	sed -nE 's/^ +([A-Za-z0-9_.-]+)>=([0-9.]+).*/\1==\2/p' setup.cfg | sort -u > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/pip install --quiet --constraint $(LOWEST)/lowest.txt torch torchvision
	$(LOWEST)/bin/pip install --quiet --constraint $(LOWEST)/lowest.txt --editable '.[all,vision]' jsonschema pytest pytest-xdist
	touch $@
