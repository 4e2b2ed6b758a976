# Everything that is run here. Only make and a Python >= 3.11 have to be there.
#   make setup   the virtual environment .venv, with the versions of constraints.txt
#   make demo    solve two games and draw their convergence, into runs/demo
#   make demo-llm  a real chat model: judges of human pairs, MPO, answers before and after, into runs/demo-llm (40 minutes)
#   make check   ruff, pyrefly and the quick tests, in two minutes   make lint   ruff and pyrefly   make quick   quick tests
#   make test    the whole test suite
#   make bench   the measurements              make bench-gpu   iterations and policies on a GPU
#   make docs    run the code of the docs, then build them
#   make notebooks  the tutorials as notebooks, into runs/notebooks
#   make peers   environments of other solvers, in .peers; make bench-peers compares with them (minutes each)
#   make parity  policies against live torch transformers (in .peers/torch)
#   make release-check  wheel and source distribution in empty environments, each Python, oldest and newest libraries
#   make clean   remove what was built, the environment apart
# Another interpreter: make setup PYTHON=/path/to/python3.12

SHELL := /bin/bash
# Compiled sources are kept: every worker, and every process that a test starts, imports a hundred of them.
export PYTHONDONTWRITEBYTECODE :=
BIN := .venv/bin
PYTHON ?= python3.12 python3.11 python3 python
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
WORKERS ?= 2
NOT_ALL := peers.% demo gallery picture summary real_model.demo real_model.demo_judges faults.golden_runs faults.release device.gpu device.gpu_policies \
	device.launch device.newcomer device.plan_bytes device.tpu_compile device.tpu_mpo real_model.speed
BENCHMARKS := $(filter-out $(NOT_ALL),$(subst /,.,$(basename $(patsubst benchmarks/%,%,$(shell grep -l __main__ benchmarks/*.py benchmarks/*/*.py)))))

.PHONY: setup demo demo-llm test check quick lint bench bench-gpu peers bench-peers parity docs notebooks release-check clean

setup: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || for python in $(PYTHON); do \
	    if "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        echo "creating .venv with $$("$$python" --version)"; "$$python" -m venv .venv; break; fi; done
	@test -x $(BIN)/python || { echo "expected a Python >= 3.11 with venv, tried: $(PYTHON)" >&2; exit 1; }
	$(PIP) --editable '.[plot,train,judge,data,track,dev]'
	@touch $@

.venv/.installed-docs: .venv/.installed
	$(PIP) --editable '.[docs]'
	@touch $@

.venv/.installed-demo: .venv/.installed
	$(PIP) --editable '.[demo]'
	@touch $@

demo: setup
	$(BIN)/python -m benchmarks.demo

demo-llm: .venv/.installed-demo
	$(BIN)/python -m benchmarks.real_model.demo

test: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

check: setup
	$(MAKE) --no-print-directory --jobs 2 lint quick

quick: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -q --quick

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check

bench: setup
	@set -e; for name in $(BENCHMARKS); do echo "== benchmarks.$$name"; $(BIN)/python -m benchmarks.$$name; done
	$(BIN)/python -m benchmarks.summary
	$(BIN)/python -m benchmarks.picture
	$(BIN)/python -m benchmarks.gallery

bench-gpu: setup
	$(PIP) --editable '.[cuda]'
	$(BIN)/python -m benchmarks.device.gpu
	$(BIN)/python -m benchmarks.device.gpu_policies

peers:
	benchmarks/peers/setup.sh

bench-peers: setup peers
	.peers/openspiel/bin/python -m benchmarks.peers.openspiel_counts
	$(BIN)/python -m benchmarks.peers
	$(BIN)/python -m benchmarks.peers.beside_trl

parity: setup
	benchmarks/peers/setup.sh torch
	rm -rf runs/saved
	$(BIN)/python -m tests.llm.save_for_torch runs/saved
	.peers/torch/bin/python tests/llm/make_golden.py --check runs/saved
	$(BIN)/python -m pytest tests/llm/test_parity.py tests/llm/test_generate.py

docs: setup .venv/.installed-docs
	$(BIN)/python -m pytest tests/test_docs.py
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

notebooks: .venv/.installed-docs
	$(BIN)/python -m docs.notebooks

release-check: setup
	$(BIN)/python -m benchmarks.faults.release

clean:
	rm -rf runs build dist docs/_build .pytest_cache .ruff_cache .hypothesis .cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
