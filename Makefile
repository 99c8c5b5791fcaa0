# LipLoop's chores. Every target makes .venv first, from the pinned requirements, if it is not there.
PYTHON ?= python3.11
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1

.PHONY: setup test test-all lint bench

setup: .venv/ready
	@:

# pip is pinned: later ones refuse espnet's metadata (a direct URL in an extra that is not installed).
.venv/ready: requirements.txt constraints.txt setup.py
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found: install Python 3.11, or name it: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "setup: making .venv and installing the pinned requirements (about 3 minutes, 6 GB)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip==24.2"
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements.txt wheel
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
	@echo "setup: done"

test: setup
	$(BIN)/python -m pytest -n 2 -m "not slow" --durations=10

test-all: setup
	$(BIN)/python -m pytest -n 2 --durations=20

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: setup
	$(BIN)/python -m benchmarks.speed paths
