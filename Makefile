# Every target sets up .venv first (scripts/set_up.py); once it is right that takes a moment only.
# PYTHON        the interpreter to make .venv from
# PYTEST_ARGS   more arguments for pytest, such as: make test PYTEST_ARGS="-k checkout -x"
# DEMO_ARGS     arguments for `airflow-sm-git demo`
# BENCH_ARGS    arguments for the benchmarks
# TEST_WORKERS  processes that the quick tests are spread over; 0 for none, as a debugger wants
# SLOW_WORKERS  the same for the slow ones, most of whose time is waiting for an Airflow
PYTHON ?= python3
TEST_WORKERS ?= 3
SLOW_WORKERS ?= 2
BIN := .venv/bin

# An activated environment or a PYTHONPATH of the caller's must not decide what runs here.
unexport CONDA_PREFIX PYTHONHOME PYTHONPATH VIRTUAL_ENV

.PHONY: bench clean demo lint set-up test test-all test-slow

demo: set-up
	$(BIN)/airflow-sm-git demo $(DEMO_ARGS)

test: set-up
	$(BIN)/python -m pytest -m "not slow" --numprocesses $(TEST_WORKERS) --dist loadfile $(PYTEST_ARGS)

test-slow: set-up
	$(BIN)/python -m pytest -m slow --numprocesses $(SLOW_WORKERS) --dist loadfile $(PYTEST_ARGS)

test-all: test test-slow

lint: set-up
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: set-up
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

set-up:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "airflow-sm-git needs Python 3.11 or newer as $(PYTHON). Name another: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -I scripts/set_up.py

# The environments (.venv, .venv-peers) stay: they renew themselves when they are no longer right.
clean:
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +
