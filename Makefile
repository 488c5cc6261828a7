# Everything that a person or a CI runs. `make demo` and `make test` set the project up by themselves.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
PIP := .venv/bin/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt

.PHONY: setup demo test test-slow check bench clean
.DEFAULT_GOAL := test

setup: .venv/installed

# deepspeed's build imports torch, so torch is there first and the build is not isolated.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) torch setuptools wheel ninja
	$(PIP) --no-build-isolation deepspeed
	$(PIP) --no-build-isolation --editable '.[dev]'
	touch $@

demo: setup
	rm -rf out/demo
	kinescribe demo --out out/demo

test: setup
	pytest -m 'not slow'

test-slow: setup
	pytest -m slow

check: setup
	ruff format --check .
	ruff check .
	pyright
	lint-imports

bench: setup
	for benchmark in benchmarks/*.py; do python $$benchmark || exit 1; done

clean:
	rm -rf .venv build dist *.egg-info out
