# Usage: make TARGET [PRESET=laptop] [RESULTS=results] [EXECUTOR=ray]
PYTHON   ?= python3
PRESET   ?= laptop
RESULTS  ?= results
EXECUTOR ?= ray

BIN := .venv/bin
LAB := $(BIN)/scionlab
PIP := $(BIN)/pip install -qq --disable-pip-version-check -c constraints.txt
FROM = --preset "$(PRESET)" --results "$(RESULTS)"

.DEFAULT_GOAL := help
.PHONY: help setup test check format smoke sweep-width fit-lr-transfer figures report clean distclean

help: ## print this list
	@echo "make TARGET [PRESET=smoke|laptop|full|gpu] [RESULTS=folder] [EXECUTOR=ray|inline]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(BIN)/.ready ## make .venv and install the project into it

# The stamp depends on what decides the environment, so that an edit to either reinstalls.
$(BIN)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "scionlab needs Python 3.11 or newer, this is %d.%d; name another: make PYTHON=python3.12" % v[:2])'
	@echo "setting up .venv (a minute or more, once)"
	@$(PYTHON) -m venv .venv
	@$(PIP) "torch==$$(sed -n 's/^torch==//p' constraints.txt)"
	@$(PIP) --editable .
	@touch $@

$(BIN)/.ready-dev: $(BIN)/.ready
	@echo "adding the development tools to .venv (once)"
	@$(PIP) --editable '.[dev]'
	@touch $@

test: $(BIN)/.ready-dev ## run the tests
	$(BIN)/pytest

check: $(BIN)/.ready-dev ## lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(BIN)/.ready-dev ## reformat the code and sort imports
	$(BIN)/ruff check --fix --select I .
	$(BIN)/ruff format .

smoke: ## the width sweep in under a minute: shows that everything runs
	@$(MAKE) --no-print-directory sweep-width PRESET=smoke

sweep-width: $(BIN)/.ready ## train the width sweep, then fit, draw and report
	@# A trial that failed (status 1) is a row like any other: the report is drawn all the same.
	@$(LAB) run width $(FROM) --executor "$(EXECUTOR)"; status=$$?; \
	    [ $$status -le 1 ] || exit $$status; \
	    $(LAB) report $(FROM) && exit $$status

fit-lr-transfer: $(BIN)/.ready ## fit learning-rate transfer to the runs in the store
	$(LAB) fit lr-transfer $(FROM)

figures: $(BIN)/.ready ## draw the figures from the runs in the store
	$(LAB) figures $(FROM)

report: $(BIN)/.ready ## fit, draw and write the HTML report from the runs in the store
	$(LAB) report $(FROM)

clean: ## remove what runs made (the contents of RESULTS)
	@test -n "$(RESULTS)" || { echo "RESULTS is empty: name a folder" >&2; exit 2; }
	rm -rf "$(RESULTS)/runs" "$(RESULTS)/fits" "$(RESULTS)/figures" "$(RESULTS)/report"

distclean: clean ## remove the environment, too
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
