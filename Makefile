# Usage: make TARGET [PRESET=laptop] [RESULTS=results] [EXECUTOR=ray] [OPTIMIZER=scion] [EXPERIMENT=width]
PYTHON   ?= python3
PRESET   ?= laptop
RESULTS  ?= results
EXECUTOR ?= ray

BIN := .venv/bin
LAB := $(BIN)/scionlab
PIP := $(BIN)/pip install -qq --disable-pip-version-check -c constraints.txt
FROM = --preset "$(PRESET)" --results "$(RESULTS)"
# OPTIMIZER=adam asks the question of an experiment of another method, whose own name is then batch-adam.
OPTIMIZER ?=
# How trials are trained: COMPILE=always|never, STACK=1 for none, STEM=always|never; what is fastest otherwise.
# MICRO_BATCH=N reads larger batches in parts of N; what fits otherwise.
COMPILE ?=
STACK ?=
STEM ?=
MICRO_BATCH ?=
HOW = $(if $(COMPILE),--compile "$(COMPILE)") $(if $(STACK),--stack "$(STACK)") $(if $(STEM),--stem "$(STEM)") \
	$(if $(MICRO_BATCH),--micro-batch "$(MICRO_BATCH)")
OTHER = $(if $(filter-out scion,$(OPTIMIZER)),-$(OPTIMIZER))
BY = $(if $(OPTIMIZER),--optimizer "$(OPTIMIZER)")
# A trial that failed (status 1) is a row like any other: the report is drawn all the same.
sweep = $(LAB) run $(1) $(2) $(FROM) --executor "$(EXECUTOR)" $(HOW); status=$$?; \
    [ $$status -le 1 ] || exit $$status; \
    $(LAB) report $(1)$(3) $(FROM) && exit $$status

.DEFAULT_GOAL := help
.PHONY: help setup test bench coverage docs check format smoke sweep-width sweep-batch sweep-seq sweep-restarts sweep-width-mlp sweep-width-cnn sweep-depth sweep-batch-tolerance sweep-momentum sweep-norm-choice sweep-coordinates sweep-norm-control sweep-epochs sweep-clipping sweep-schatten sweep-schatten-regime sweep-schatten-warmup sweep-norm-transfer sweep-schedules sweep-warmup sweep-soda sweep-gradient-noise sweep-heavy-tails sweep-nesterov sweep-convergence sweep-nanogpt sweep-shallow-nanogpt sweep-airbench sweep-deit tune-proxy transfer fit-lr-transfer fit-batch-scaling figures report reproduce clean distclean

help: ## print this list
	@echo "make TARGET [PRESET=smoke|laptop|full|gpu] [RESULTS=folder] [EXECUTOR=ray|inline] [OPTIMIZER=name] [EXPERIMENT=name]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-21s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

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
	@# A thread for each of the workers: more of them only wait for each other. Bytecode is kept for the processes that
	@# tests start, also where the environment says otherwise.
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

bench: $(BIN)/.ready-dev ## time what has to be fast: steps, stacking, sweeps, the store (minutes)
	$(BIN)/python -m benchmarks --results "$(RESULTS)"

coverage: $(BIN)/.ready-dev ## check the coverage of the intervals by simulation (minutes)
	$(BIN)/python -m benchmarks.coverage_transfer
	$(BIN)/python -m benchmarks.coverage_comparison
	$(BIN)/python -m benchmarks.coverage_regret
	$(BIN)/python -m benchmarks.coverage_verdicts
	$(BIN)/python -m benchmarks.coverage_joint
	$(BIN)/python -m benchmarks.coverage

docs: $(BIN)/.ready-dev ## render the documentation and every docstring into site/
	$(BIN)/python docs/tools/render.py

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
	@$(call sweep,width)

sweep-batch: $(BIN)/.ready ## budget × batch size × learning rate; OPTIMIZER=adam for another method
	@$(call sweep,batch,$(BY),$(OTHER))

sweep-seq: $(BIN)/.ready ## sequence length at fixed batch size and budget
	@$(call sweep,seq,$(BY),$(OTHER))

sweep-restarts: $(BIN)/.ready ## batch and step size restarted as the budget grows, against fixed ones
	@$(call sweep,restarts)

sweep-width-mlp: $(BIN)/.ready ## the width sweep with an MLP on digits
	@$(call sweep,width-mlp)

sweep-width-cnn: $(BIN)/.ready ## the width sweep with a CNN on digits
	@$(call sweep,width-cnn)

sweep-depth: $(BIN)/.ready ## learning-rate transfer across depth, three residual scales
	@$(call sweep,depth)

sweep-batch-tolerance: $(BIN)/.ready ## batch size at a fixed token budget: Scion, Muon, Adam
	@$(call sweep,batch-tolerance)

sweep-momentum: $(BIN)/.ready ## momentum against batch size and budget
	@$(call sweep,momentum)

sweep-norm-choice: $(BIN)/.ready ## norms of the first and the last layer
	@$(call sweep,norm-choice)

sweep-coordinates: $(BIN)/.ready ## the coordinate check
	@$(call sweep,coordinates)

sweep-norm-control: $(BIN)/.ready ## norms of the weights during training, and their bounds
	@$(call sweep,norm-control)

sweep-epochs: $(BIN)/.ready ## many epochs over little text: constraint against decay
	@$(call sweep,epochs)

sweep-clipping: $(BIN)/.ready ## clipped against plain steps
	@$(call sweep,clipping)

sweep-schatten: $(BIN)/.ready ## Schatten norms of the hidden layers
	@$(call sweep,schatten)

sweep-schatten-regime: $(BIN)/.ready ## does the best Schatten norm depend on the number of steps?
	@$(call sweep,schatten-regime)

sweep-schatten-warmup: $(BIN)/.ready ## which Schatten norms want a warm-up
	@$(call sweep,schatten-warmup)

sweep-norm-transfer: $(BIN)/.ready ## the last layer's norm at the best settings
	@$(call sweep,norm-transfer)

sweep-schedules: $(BIN)/.ready ## schedules of theory and practice
	@$(call sweep,schedules)

sweep-warmup: $(BIN)/.ready ## how much warm-up every method wants
	@$(call sweep,warmup)

sweep-soda: $(BIN)/.ready ## a pull to the start against weight decay, over horizons
	@$(call sweep,soda)

sweep-gradient-noise: $(BIN)/.ready ## how heavy the tail of the gradients' noise is, layer by layer
	@$(call sweep,gradient-noise)

sweep-heavy-tails: $(BIN)/.ready ## which Schatten norm under which tail of the noise, on a known problem
	@$(call sweep,heavy-tails)

sweep-nesterov: $(BIN)/.ready ## how much of Muon's distance from Scion is Nesterov's average
	@$(call sweep,nesterov)

sweep-convergence: $(BIN)/.ready ## rates of convergence on a known problem
	@$(call sweep,convergence)

sweep-nanogpt: $(BIN)/.ready ## the published NanoGPT runs; PRESET=gpu, gpu-bst, gpu-775m, gpu-1b are theirs
	@$(call sweep,nanogpt)

sweep-shallow-nanogpt: $(BIN)/.ready ## the published transfer across width; PRESET=gpu is theirs
	@$(call sweep,shallow-nanogpt)

sweep-airbench: $(BIN)/.ready ## the published airbench runs on CIFAR-10; PRESET=gpu, gpu-speedrun are theirs
	@$(call sweep,airbench)

sweep-deit: $(BIN)/.ready ## the published DeiT-B run on ImageNet; PRESET=gpu is theirs
	@$(call sweep,deit)

# Searches are never stacked, and compiled by COMPILE=always only; EXPERIMENT may be a path to your own .py file here.
SEARCHED = $(if $(EXPERIMENT),"$(EXPERIMENT)",transfer)

tune-proxy: $(BIN)/.ready ## search for the smallest model's best values: Adam, μP, Muon, Scion
	@$(LAB) tune $(SEARCHED) $(FROM) --executor "$(EXECUTOR)" $(if $(COMPILE),--compile "$(COMPILE)")

transfer: $(BIN)/.ready ## use them at larger models as they are, against tuning those: regret and compute
	@$(LAB) transfer $(SEARCHED) $(FROM) --executor "$(EXECUTOR)" $(HOW); status=$$?; [ $$status -le 1 ] || exit $$status; \
	    $(LAB) report $(FROM) && exit $$status

fit-lr-transfer: $(BIN)/.ready ## fit learning-rate transfer to the runs in the store
	$(LAB) fit width --study lr-transfer $(FROM)

fit-batch-scaling: $(BIN)/.ready ## fit batch size, learning rate and rules to the runs in the store
	$(LAB) fit batch$(OTHER) --study batch-scaling $(FROM)

# Without EXPERIMENT, of the sweep that was called last.
WHICH = $(if $(EXPERIMENT),"$(EXPERIMENT)")

figures: $(BIN)/.ready ## draw the figures from the runs in the store
	$(LAB) figures $(WHICH) $(FROM)

report: $(BIN)/.ready ## fit, draw and write the HTML report from the runs in the store
	$(LAB) report $(WHICH) $(FROM)

# TABLES=folder holds the public tables that do not come with the project; without it one that does is fitted.
TABLES ?=

reproduce: $(BIN)/.ready ## published numbers beside ours, in seconds; TABLES=folder of public tables for all of them
	$(LAB) reproduce $(if $(TABLES),--tables "$(TABLES)") --results "$(RESULTS)"

clean: ## remove what runs made (the contents of RESULTS)
	@test -n "$(RESULTS)" || { echo "RESULTS is empty: name a folder" >&2; exit 2; }
	rm -rf "$(RESULTS)/runs" "$(RESULTS)/fits" "$(RESULTS)/figures" "$(RESULTS)/report" \
	    "$(RESULTS)/cache" "$(RESULTS)/bench" "$(RESULTS)/tuning"

distclean: clean ## remove the environment, too
	rm -rf .venv build site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
