# Two commands do everything: `make demo` and `make test`. Nothing else to install but Python >= 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Each process takes neighbouring tests: what a module prepares is prepared once, not by both.
PYTEST_ARGS ?= -n 2 --dist worksteal
# Threads of two test processes would wait for each other by spinning: see benchmarks/company.py.
export GOMP_SPINCOUNT ?= 1000

.PHONY: demo test bench lint lock clean help
help:  ## Show the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

demo: $(VENV)/.installed  ## Simulate a county, train, compare, log to MLflow, score, explain (about 2 minutes on 2 free cores)
	$(BIN)/poverty-risk demo

test: lint  ## Lint, types, import rules, all tests
	$(BIN)/pytest $(PYTEST_ARGS)

bench: $(VENV)/.installed  ## Run the quick benchmarks beside the stored figures, and render benchmarks/README.md
	$(BIN)/python benchmarks/render.py --run

lint: $(VENV)/.installed  ## Lint, types, import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy src
	$(BIN)/lint-imports

# The theme's notice about its successor is no fault of the pages.
docs: $(VENV)/.installed  ## Build the documentation into site/; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "site/index.html"

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "poverty_risk needs Python >= 3.11; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "installing into $(VENV) (once; some minutes)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Needs uv (pip install uv). One lock for Python 3.11 to 3.13; no index address, no machine path in it.
lock:  ## Pin all dependencies anew into requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --extra dev --generate-hashes \
	  --no-emit-index-url --no-header --no-annotate pyproject.toml -o requirements.lock --upgrade

clean:  ## Remove the environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build dist site
