# Everything happens in .venv, from pinned versions. Needs Python 3.11 or newer, git and make.
# Works with GNU make 3.81, which macOS ships.

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The Restate server, which only the targets that end in -restate need. It comes from npm.
RESTATE := .restate
RESTATE_PINS := .ci/restate/package.json .ci/restate/package-lock.json
# Errors only.
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
PYTHONS := python3 python3.14 python3.13 python3.12 python3.11 python
IS_USABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

# One process more than CI has cores: many tests wait for other processes. `make test PYTEST_ARGS="-k approval"` runs
# what you choose in one.
PYTEST_ARGS ?= -n 3 --dist worksteal
# Each process has a Restate server of its own.
RESTATE_ARGS ?= -n 2 --dist worksteal
# How long each long suite may look for a failure.
BUDGET_S ?= 300
# For example --only power_loss simulation, or --scale 0.01 to see it work.
LAB_ARGS ?=
# Where `make serve` listens.
PORT ?= 8321

export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
# Without compiled files every process that a test starts takes half as long again to begin.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup test test-long test-wheel test-restate chaos-restate lab run serve bench bench-server bench-restate \
  docs pictures format lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## Prepare .venv with everything for development

$(STAMP): pyproject.toml constraints.txt
	@if ! $(BIN)/python -c '$(IS_USABLE)' 2>/dev/null; then \
	  for python in $(PYTHONS); do \
	    if "$$python" -c '$(IS_USABLE)' 2>/dev/null; then found=$$python; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "make setup: none of $(PYTHONS) on PATH is Python 3.11 or newer with the venv module" >&2; exit 1; \
	  fi; \
	  echo "Making $(VENV) with $$("$$found" --version)"; \
	  "$$found" -m venv --clear $(VENV) || exit 1; \
	fi
	@echo "Installing from constraints.txt"
	@$(PIP) install -c constraints.txt hatchling editables
	@$(PIP) install -c constraints.txt --no-build-isolation -e '.[server,restate,dev]'
	@touch $@

test: setup ## Check style, types and layers, then run the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/pyright
	$(BIN)/pytest $(PYTEST_ARGS)

test-long: setup ## Run the suites that take minutes (BUDGET_S seconds each)
	OSP_TEST_BUDGET_S=$(BUDGET_S) $(BIN)/pytest -m 'long and not restate' -o faulthandler_timeout=0

lab: setup ## Run the reliability lab (90 minutes on two cores) and write .lab/report.md
	$(BIN)/python -m tests.lab $(LAB_ARGS)

test-wheel: setup ## Build the wheel and try it in a clean environment without extras
	$(BIN)/python .ci/check_wheel.py

# The lock file names no registry: npm asks the one that it is set up with. No script of a package runs.
$(RESTATE)/.installed: $(RESTATE_PINS)
	@if ! command -v npm >/dev/null; then \
	  echo "make: the Restate server comes from npm, which is not on PATH: install Node.js 20 or newer" >&2; exit 1; \
	fi
	@echo "Installing the Restate server into $(RESTATE)"
	@mkdir -p $(RESTATE) && cp $(RESTATE_PINS) $(RESTATE)/
	@cd $(RESTATE) && npm ci --ignore-scripts --include=optional --no-audit --no-fund --loglevel=error >/dev/null
	@touch $@

test-restate: setup $(RESTATE)/.installed ## Run the tests of the Restate engine (installs the server, needs npm)
	$(BIN)/pytest -m 'restate and not long' $(RESTATE_ARGS) tests/restate

chaos-restate: setup $(RESTATE)/.installed ## Kill nodes and workers of a Restate cluster under load, and count
	$(BIN)/python tests/restate/chaos.py

run: setup ## Run the release notes example: make run [REPO=path/to/a/git/repository]
	@$(BIN)/python examples/release_notes.py $(if $(REPO),'$(REPO)')

serve: setup ## Start the console with sample runs: make serve [PORT=8321]
	@$(BIN)/python examples/console_samples.py
	@exec $(BIN)/osp serve --db .osp/console/runs.db --port $(PORT) examples/console_samples.py examples/release_notes.py

bench: setup ## Run the benchmarks
	$(BIN)/python benchmarks/run.py

bench-server: setup ## Load one server: streams, starts, reads, votes in a browser
	$(BIN)/python benchmarks/server/load.py

bench-restate: setup $(RESTATE)/.installed ## Run the benchmarks of the Restate engine, beside bare Restate
	$(BIN)/python benchmarks/restate/run.py

docs: setup ## Write the generated parts of the documents
	$(BIN)/python docs/generate.py
	$(BIN)/python -m osprotocol.cli.reference docs/cli.md

pictures: setup ## Take the documents' pictures of the console again (needs Chromium)
	$(BIN)/python docs/pictures/take.py

format: setup ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lock: ## Write constraints.txt again, from the newest versions
	@bash .ci/lock

clean: ## Remove the environment, caches and built packages
	rm -rf $(VENV) $(RESTATE) .lab build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
