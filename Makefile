# Strongroom: `make run` installs into .venv, makes a demonstration in ./var and starts everything.
#
# Nothing outside this folder is changed. Dependencies come from the lock files, checked by hash. A lock is
# complete, so pip must not resolve it anew (--no-deps): pip before 23.3 refuses a lock in hash mode in which a
# package is asked for by a range, as soon as a newer release is out. `pip check` then says what is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
# One more than there are processors: many tests wait for processes that start (docs/tests.md).
JOBS ?= $(shell expr $$(nproc) + 1)
UV ?= $(BIN)/uv
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links
# What an editable install is built with (`--no-build-isolation` takes it from the environment).
BUILD := hatchling editables

.PHONY: run install install-dev test coverage check lock clean
.DEFAULT_GOAL := run

run: install var/config.toml
	@exec $(BIN)/strongroom run -c var/config.toml

var/config.toml: | $(INSTALLED)
	@$(BIN)/strongroom init var --demo

install: $(INSTALLED)

install-dev: $(INSTALLED_DEV)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "make: $(PYTHON): expected Python 3.11 or later, found $$($(PYTHON) --version 2>&1); set PYTHON=" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "make: $(PYTHON): expected its venv module, found none; on Debian: apt install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(INSTALLED): requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing into $(VENV) (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m pip check --disable-pip-version-check >/dev/null || $(BIN)/python -m pip check
	@touch $@

$(INSTALLED_DEV): requirements-dev.lock $(INSTALLED)
	@echo "Installing the development tools into $(VENV) (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip check --disable-pip-version-check >/dev/null || $(BIN)/python -m pip check
	@touch $@

test: install-dev
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

# The same, counting lines; it takes twice as long.
coverage: install-dev
	$(BIN)/coverage erase
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --cov --cov-report=term:skip-covered

check: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The lock files name neither a registry nor this machine. Needs uv: `make lock UV=/path/to/uv`.
lock:
	@command -v $(UV) >/dev/null || \
		{ echo "make: $(UV): expected uv, found none; set UV= to its path" >&2; exit 1; }
	@printf '%s\n' $(BUILD) | $(COMPILE) pyproject.toml - --output-file requirements.lock
	@printf '%s\n' $(BUILD) | $(COMPILE) pyproject.toml --group dev --constraints requirements.lock - \
		--output-file requirements-dev.lock

clean:
	rm -rf $(VENV) dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find gateway vault retention_rules tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
