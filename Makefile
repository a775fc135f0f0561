# make up      a fresh clone becomes a running system
# make test    what CI runs; test-all adds what takes longer
PYTHON ?= python3
SYSTEM ?= systems/resilient-monitor
ORACLE ?= ../shared/oracle
# Files of tests that run at a time: they wait more than they compute, but some count what is lost under load.
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev

.PHONY: up down test test-all lint bench bench-api bench-controllers fuzz soak oracle docs schema-pack clean

up: $(STAMP)
	$(BIN)/podling up $(SYSTEM)

down: $(STAMP)
	$(BIN)/podling down

test: $(DEV_STAMP)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not slow"

test-all: $(DEV_STAMP)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

lint: $(DEV_STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/pyright

bench: $(DEV_STAMP)
	$(BIN)/python -m bench $(BENCH_ARGS)

bench-api: $(DEV_STAMP)
	$(BIN)/python -m bench api $(BENCH_ARGS)

bench-controllers: $(DEV_STAMP)
	$(BIN)/python -m bench controllers $(BENCH_ARGS)

fuzz: $(DEV_STAMP)
	PYTHONPATH=tests $(BIN)/python -m fuzz $(FUZZ_ARGS)

soak: $(DEV_STAMP)
	PYTHONPATH=tests $(BIN)/python -m fuzz.soak $(SOAK_ARGS)

# Recorded behaviour of a real cluster; the recordings are not part of this repository.
oracle: $(DEV_STAMP)
	@if [ -d "$(ORACLE)" ]; then $(BIN)/python tools/oracle.py "$(ORACLE)" $(ORACLE_ARGS); \
	else echo "no recordings at $(ORACLE): nothing to compare"; fi

docs: $(DEV_STAMP)
	@ls docs/*.md

schema-pack: $(DEV_STAMP)
	$(BIN)/python tools/build_schema_pack.py

$(BIN)/python:
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"

$(STAMP): $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(DEV_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

clean:
	rm -rf $(VENV)
