# Two commands for a newcomer: `make demo` and `make test`. Both set up everything in .venv; a second run reuses it.
#
# A machine without a GPU can save several gigabytes: give the address of PyTorch's CPU wheel index, as shown by the
# "Get Started" selector on PyTorch's site (Stable, Linux, Pip, CPU):   make demo TORCH_INDEX=<address>

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH_INDEX ?=
PIP := $(BIN)/pip --disable-pip-version-check

.PHONY: demo test test-all lint browser format clean

demo: $(VENV)/.runtime
	$(BIN)/avpipe demo

# Two processes share the tests (tests/tools/side_by_side.py), each on one core.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -m "not slow" --side-by-side

test-all: lint
	$(BIN)/pytest -q

lint: $(VENV)/.develop
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p avpipe.pipeline -p avpipe.stages -p avpipe.cli

# A real browser opens the report in the tests; without one those tests are skipped. Nothing else installs it unasked.
browser:
	@if command -v chromium >/dev/null || command -v chromium-browser >/dev/null; then echo "Chromium is here."; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -q && apt-get install -qy --no-install-recommends chromium; \
	else echo "No chromium here. On Debian, as root: apt-get install chromium"; exit 1; fi

format: $(VENV)/.develop
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache

# Debian ships Python without ensurepip; install its venv package where we may, else say so.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "avpipe needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  apt-get update -q && apt-get install -qy python3-venv; } || \
	  { echo "Python's venv module is missing: install Debian's python3-venv and run make again"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml | $(BIN)/pip
	$(if $(TORCH_INDEX),$(PIP) install --quiet torch torchvision --index-url $(TORCH_INDEX))
	$(PIP) install --quiet --editable .
	@touch $@

# Type checkers do not follow setuptools' package-dir mapping, so they get a tree of links with the import names.
$(VENV)/.develop: pyproject.toml $(VENV)/.runtime
	$(PIP) install --quiet --editable '.[dev]'
	@mkdir -p build/typing/avpipe
	@for package in pipeline stages cli data_manifests; do ln -sfn ../../../$$package build/typing/avpipe/$$package; done
	@touch $@
