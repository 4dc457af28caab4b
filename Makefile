# make demo: set-up, then train, evaluate and draw on data it makes itself.  make test: set-up, lint,
# tests.  Choose with make VARIABLE=VALUE: another Python, another torch build, more test workers.
PYTHON ?= python3
VENV ?= .venv
# Another torch pair than requirements/torch.txt ("torch==... torchvision==...") and another package
# index for it (CPU or ROCm builds). They need naming once: the environment remembers them.
TORCH ?=
TORCH_INDEX_URL ?=
WORKERS ?= 2
PYTEST_ARGS ?=
TOPICS ?=
QUICK ?=
# Packages are installed without compiled files (set-up is three times as fast), so Python has to keep
# those it makes: without them each start takes seconds longer, and tests start hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE
SEED := $(or $(SEED),$(shell date +%s))
TABLE ?=

# An existing environment is kept with its own Python, unless PYTHON is given.
ifeq ($(origin PYTHON),file)
SETUP_PYTHON = $(if $(wildcard $(VENV)/bin/python),$(VENV)/bin/python,$(PYTHON))
else
SETUP_PYTHON = $(PYTHON)
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo bench test test-slow test-some-slow torture lint format clean

help:
	@echo "make setup      the environment in $(VENV): pinned packages, detectron2, this project"
	@echo "make demo       set-up, then train, evaluate and draw a small panoptic model"
	@echo "make bench      set-up, then measure speed and memory beside other implementations"
	@echo "make test       set-up, lint and the test suite"
	@echo "make test-slow  the same with the slow tests"
	@echo "make torture    set-up, then faults on purpose: kills, damage, hostile files, full disks"
	@echo "make lint       ruff, mypy and import-linter"
	@echo "make format     let ruff reformat and fix what it can"
	@echo "make clean      remove $(VENV) and caches"

setup:
	@$(SETUP_PYTHON) tools/make/setup_env.py --venv "$(VENV)" --torch "$(TORCH)" --index-url "$(TORCH_INDEX_URL)"

demo: setup
	$(VENV)/bin/python tools/make/run_demo.py

# QUICK=1 takes smaller inputs; TOPICS="losses mapping" measures these alone (benchmarks/__main__.py).
bench: setup
	$(VENV)/bin/python -m benchmarks $(TOPICS) $(if $(QUICK),--quick)

# One thread a worker: the workers share the cores.
test: lint
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

test-slow: lint
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(WORKERS) --slow $(PYTEST_ARGS)

# The long form; SEED=7 repeats one, TABLE=docs/reliability.md writes its table there.
torture: setup
	@echo "make torture SEED=$(SEED)"
	TORTURE=1 TORTURE_SEED=$(SEED) TORTURE_TABLE=$(TABLE) OMP_NUM_THREADS=1 \
		$(VENV)/bin/python -m pytest -n $(WORKERS) tests/torture $(PYTEST_ARGS)

# Those that take less than two minutes together: conversions, memory, whole runs and how they resume.
test-some-slow: setup
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(WORKERS) --slow -m slow tests/checkpoints \
		tests/whole/test_quick_start.py tests/evaluation/test_memory.py tests/engine -k "not compiled and not full_size"

lint: setup
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: setup
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

clean:
	rm -rf "$(VENV)" build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
