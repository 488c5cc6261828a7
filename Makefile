# What people and CI run. Each target sets the project up first if needed.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
PIP := .venv/bin/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt

.PHONY: setup vllm demo test test-slow test-long chaos check docs dist mutants fuzz bench science embedded clean
# Two processes on two cores, each with one torch thread; more would only compete.
PYTEST := OMP_NUM_THREADS=1 pytest --numprocesses 2
.DEFAULT_GOAL := test

setup: .venv/installed

# deepspeed's build imports torch, so torch is installed first and the build is not isolated.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) torch setuptools wheel ninja
	$(PIP) --no-build-isolation deepspeed
	$(PIP) --no-build-isolation --editable '.[dev]'
	touch $@

# The real vLLM, for `make test-long`: 3.5 GB in an environment of its own.
vllm: .vllm/installed

.vllm/installed: tests/vllm_environment.sh constraints.txt
	PYTHON=$(PYTHON) bash tests/vllm_environment.sh .vllm

demo: setup
	rm -rf out/demo
	kinescribe demo --out out/demo

test: setup
	$(PYTEST) -m 'not slow'

test-slow: setup
	$(PYTEST) -m 'slow and not long' -rs

test-long: setup
	pytest -m long

# Kill N processes of labelling runs at random times and compare the rows with an undisturbed run.
N ?= 50
chaos: setup
	python -m tests.chaos --num $(N)

check: setup
	ruff format --check .
	ruff check .
	pyright
	lint-imports

# A broken link or reference is an error.
docs: setup
	sphinx-build --quiet --fail-on-warning --keep-going docs out/docs
	@echo out/docs/index.html

# The links in kinescribe/ become folders.
dist: setup
	rm -rf build dist
	python -m build --no-isolation --quiet

# Change the code line by line and list the changes that no quick test notices. `make mutants OF=media` for one package.
OF ?= media labeling storage training/objective.py
mutants: setup
	for part in $(OF); do bash tests/mutants.sh $$part || exit 1; done

# Coverage-guided fuzzing, two targets at a time, a minute for each; `make fuzz FUZZ_S=3600` for an hour each. With
# `FUZZ_SEED=1` it tries the same inputs each time.
FUZZ_S := 60
FUZZ_SEED := 0
FUZZED := header footer card csv jsonl parquet reply dataset
fuzz: setup
	$(PIP) --editable '.[fuzz]'
	printf '%s\n' $(FUZZED) | PYTHONPATH=. xargs -P 2 -I TARGET python tests/fuzz.py TARGET \
		-seed=$(FUZZ_SEED) -max_total_time=$(FUZZ_S) -timeout=60 -rss_limit_mb=0

bench: setup
	for benchmark in $(filter-out benchmarks/science%,$(wildcard benchmarks/*.py)); do python $$benchmark || exit 1; done

# Takes hours: the method's claims over seeds, to docs/science.json and .png. Run again to resume.
science: setup
	python benchmarks/science.py

# The recipe of the embedded models' weights; their cards say what they reached.
WORLD := out/embedded
embedded: setup
	kinescribe simulate triplets --num 32768 --seed 100 --out $(WORLD)/pictures
	kinescribe simulate triplets --num 2048 --seed 100 --split test --out $(WORLD)/test-pictures
	kinescribe train codec --config configs/embedded-codec.yaml --out $(WORLD)/codec \
		--data $(WORLD)/pictures --set 'held_out=[$(WORLD)/test-pictures]'
	for seed in 1 2; do kinescribe simulate triplets --num 131072 --seed $$seed \
		--codec $(WORLD)/codec/export --out $(WORLD)/triplets-$$seed; done
	kinescribe simulate triplets --num 2048 --seed 9 --split test --codec $(WORLD)/codec/export --out $(WORLD)/test
	kinescribe train dynamics --config configs/embedded-dynamics.yaml --out $(WORLD)/dynamics \
		--data $(WORLD)/triplets-1 --data $(WORLD)/triplets-2 --set 'held_out=[$(WORLD)/test]' \
		--set model.codec=$(WORLD)/codec/export
	for seed in 3 4; do kinescribe simulate triplets --num 163840 --seed $$seed --camera-weight 0.6 \
		--codec $(WORLD)/codec/export --out $(WORLD)/triplets-$$seed; done
	kinescribe train dynamics --config configs/embedded-objects.yaml --out $(WORLD)/objects \
		--data $(WORLD)/triplets-3 --data $(WORLD)/triplets-4 --set 'held_out=[$(WORLD)/test]' \
		--set init=$(WORLD)/dynamics/export
	kinescribe evaluate dynamics $(WORLD)/test --dynamics $(WORLD)/objects/export
	for seed in 21 22; do kinescribe simulate triplets --num 65536 --seed $$seed --camera-weight 1 --rough-share 0 \
		--codec $(WORLD)/codec/export --out $(WORLD)/triplets-$$seed; done
	kinescribe train world --config configs/embedded-world.yaml --out $(WORLD)/world \
		--data $(WORLD)/triplets-21 --data $(WORLD)/triplets-22 --set 'held_out=[$(WORLD)/test]' \
		--set init=$(WORLD)/objects/export
	kinescribe evaluate world --world $(WORLD)/world/export --num 1000

clean:
	rm -rf .venv .vllm build dist *.egg-info out
