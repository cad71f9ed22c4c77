# make demo   install and run the main job: real files in, through Temporal, to cited answers
# make test   install what the tests need and run them all        make lint   ruff and pyright
# make bench  measure against the budgets                          make clean  remove what these made
# make properties   any operations in any order, far more of them than in `make test`
# make faults  of the tests those alone that crash, fail and pause whole memories
# make chaos  kill, pause and starve a memory under load: N=200 KILLS=15 SEED=1 PROFILE=embedded or servers

.PHONY: demo test lint bench chaos faults properties clean install install-dev constraints
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
PYTHON ?= $(shell command -v python3.11 || command -v python3 || command -v python)
UV := $(shell command -v uv)
# uv is quicker; plain venv and pip do the same.
INSTALL := $(if $(UV),uv pip install --quiet --python $(BIN)/python,$(BIN)/python -m pip install --quiet --disable-pip-version-check)
PYTEST_WORKERS ?= 2

help:
	@grep -E '^# make' Makefile | cut -c3-

$(BIN)/python:
	$(if $(UV),uv venv --quiet --python $(PYTHON) $(VENV),$(PYTHON) -m venv $(VENV))

install: $(VENV)/.installed
$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) -c constraints.txt -e .
	@touch $@

install-dev: $(VENV)/.installed-dev
$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(INSTALL) -c constraints.txt -r requirements-dev.txt
	@touch $@

demo: install
	$(BIN)/python examples/demo.py

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

test: install-dev
	$(BIN)/pytest -n $(PYTEST_WORKERS) --dist loadgroup --max-worker-restart 1

bench: install-dev
	$(BIN)/python -m benchmarks

N ?= 200
KILLS ?= 15
SEED ?= 1
PROFILE ?= embedded
chaos: install-dev
	$(BIN)/python -m tests.chaos --n $(N) --kills $(KILLS) --seed $(SEED) --profile $(PROFILE) $(KEEP)

faults: install-dev
	$(BIN)/pytest -m faults -n $(PYTEST_WORKERS) --dist loadgroup tests/faults tests/chaos

properties: install-dev
	HYPOTHESIS_PROFILE=slow $(BIN)/pytest -o faulthandler_timeout=0 tests/properties

# Compatible versions that the tests ran with, for every Python and platform, without any address.
constraints:
	uv pip compile pyproject.toml requirements-dev.txt --universal --python-version 3.11 --no-annotate --no-header \
		--upgrade --output-file constraints.txt

clean:
	rm -rf $(VENV) .cache .demo .pytest_cache .ruff_cache .hypothesis dist build benchmarks/results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
