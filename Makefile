# make help lists the targets. Everything is installed into .venv; nothing outside this folder is changed.
PYTHON ?= python3
CONFIG ?= config/miniature.yaml
PORT ?= 5000
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV := $(VENV)/uv/bin/uv
# Pins that are there stay; `make lock UPGRADE=--upgrade` takes the newest releases.
UPGRADE ?=
COMPILE := $(UV) pip compile pyproject.toml --universal --python-version 3.11 --no-header --no-annotate \
	--no-emit-index-url --quiet $(UPGRADE)

OMP_NUM_THREADS ?= 1
export OMP_NUM_THREADS
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true

.DEFAULT_GOAL := help
.PHONY: help demo docs toy-surface toy-surface-quick toy-surface-base check test test-rounding test-browser test-database \
	test-eight-bit test-cluster audit mlflow miniature install-miniature lint fast-tests all-tests generated lock clean distclean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | awk -F'|' '{ printf "make %-18s %s\n", $$1, $$2 }'

demo: $(STAMP) ## run the miniature benchmark, print its table and where the report is
	@$(BIN)/sdpo-bench check $(CONFIG)
	@$(BIN)/sdpo-bench unlock
	@$(BIN)/snakemake --configfile $(CONFIG)
	@$(BIN)/sdpo-bench show $(CONFIG)

toy-surface: CONFIG := config/toy-surface.yaml
toy-surface: demo ## run the toy surface of arXiv 2608.20011 and print its table; published.md has it beside the paper's
	@echo "Beside the published figures: results/toy-surface/tables/published.md"

toy-surface-quick: CONFIG := config/toy-surface-quick.yaml
toy-surface-quick: demo ## run two methods of the toy surface for two seeds, in some minutes on two cores
	@echo "Beside the published figures: results/toy-surface-quick/tables/published.md"

toy-surface-base: $(STAMP) ## pretrain the toy surface's base from a seed, in place of the shipped one
	@$(BIN)/toy-surface base --out resources/toy_surface/base

# A process that runs out of tests takes over half of what the other still has to do.
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

check: $(STAMP) ## check the code and run the fast tests
	@$(BESIDE) lint fast-tests

test: $(STAMP) ## check the code and run all tests
	@$(BESIDE) lint all-tests

# The checks keep one core busy, and the tests two: beside each other they take no longer than both need.
BESIDE = $(MAKE) --no-print-directory --jobs=2

fast-tests: $(STAMP)
	@$(PYTEST) --quiet -m "not slow" tests/unit

all-tests: $(STAMP)
	@$(PYTEST)

# Losses, λ, noising, bases, samplers and scorers: what is computed, without what trains, draws or starts processes.
NUMERIC := tests/parity tests/unit/families $(addprefix tests/unit/sdpo/,test_safeguard.py objectives training/test_gradients.py \
	diffusion bases/test_diffusers_bases.py) $(addprefix tests/unit/evals/,generation/test_sampling.py \
	generation/test_stable_diffusion.py scoring/test_seen_images.py tables/test_statistics.py \
	$(addprefix scorers/test_,aesthetic.py imagereward.py open_clip.py pickscore.py))
NUMERIC_PYTEST := $(PYTEST) --quiet $(NUMERIC)

test-rounding: $(STAMP) ## run the numeric tests as other processors round: plain and AVX2 kernels, and any other order of sums
	@ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 $(NUMERIC_PYTEST)
	@ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 PYTHONPATH=tests $(NUMERIC_PYTEST) -p other_rounding

test-browser: $(STAMP) ## open the report and its image browser in Chromium, which is installed if apt can
	@if reason=$$(tests/browser/install.sh build/axe-core); then $(BIN)/python -m pytest tests/browser; \
		else test -n "$$reason" && echo "skipped: $$reason"; fi

test-database: $(STAMP) ## import runs into a private PostgreSQL, which is installed if apt can
	@if reason=$$(tests/debian.sh PostgreSQL postgresql initdb); then \
		$(BIN)/python -m pytest tests/unit/evals/tracking/test_postgresql.py; else test -n "$$reason" && echo "skipped: $$reason"; fi

test-eight-bit: $(STAMP) ## train with moments in 8 bits, by bitsandbytes, which is put into build/adamw-8bit
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target build/adamw-8bit \
		-r requirements-adamw-8bit.lock
	@PYTHONPATH=build/adamw-8bit $(PYTEST) tests/unit/sdpo/training/test_adamw_8bit.py

test-cluster: $(STAMP) ## run the workflow on a private Slurm, as root, and let things go wrong; Slurm is installed if apt can
	@if reason=$$(tests/cluster/install.sh); then $(BIN)/python -m pytest tests/cluster; \
		else test -n "$$reason" && echo "skipped: $$reason"; fi

docs: $(STAMP) ## build the documentation as a site and print where it is
	@$(BIN)/sphinx-build -c docs -W --keep-going -q . build/site
	@echo "build/site/docs/index.html"

audit: $(STAMP) ## measure what the safeguard's bound is worth on the base and the models that the config names
	@$(BIN)/sdpo-bench unlock
	@$(BIN)/snakemake audit --configfile $(CONFIG)

mlflow: $(STAMP) ## serve the runs on this computer only and print the address
	@test -f results/mlflow/mlflow.db || { echo "No runs yet: run \`make demo\` first." >&2; exit 1; }
	@echo "MLflow (Ctrl-C ends it), the runs of each benchmark:"
	@$(BIN)/sdpo-bench runs http://127.0.0.1:$(PORT)
	@MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow server --host 127.0.0.1 --port $(PORT) --workers 1 \
		--backend-store-uri sqlite:///results/mlflow/mlflow.db --default-artifact-root results/mlflow/artifacts

miniature: $(STAMP) ## train the miniature's weights from a seed (about an hour) and print their quality
	@$(BIN)/sdpo-bench unlock
	@$(BIN)/snakemake miniature --configfile config/miniature.yaml
	@echo "Built in results/build/miniature; \`make install-miniature\` puts them in place of the shipped weights."

install-miniature: $(STAMP) ## put newly built miniature weights in place of the shipped ones
	@$(BIN)/sdpo-bench install-miniature

lint: $(STAMP) ## check style, types and workflow
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/snakefmt --check Snakefile workflow
	@$(BIN)/snakemake --lint

generated: $(STAMP) ## write the JSON schemas and the key reference of the config again
	@$(BIN)/sdpo-bench schemas
	@$(BIN)/sdpo-bench reference

lock: $(UV) ## compile the lock files from pyproject.toml
	@cat requirements.lock requirements-legacy.lock > $(VENV)/all.lock
	@cp requirements.lock $(VENV)/main.lock
	@$(COMPILE) --extra cluster --extra dev --output-file $(VENV)/main.lock > /dev/null
	@$(COMPILE) --extra cluster --extra dev --extra legacy --override overrides.txt \
		--constraint $(VENV)/main.lock --output-file $(VENV)/all.lock > /dev/null
	@cp requirements-adamw-8bit.lock $(VENV)/8bit.lock
	@$(COMPILE) --extra cluster --extra dev --extra adamw-8bit --constraint $(VENV)/main.lock \
		--output-file $(VENV)/8bit.lock > /dev/null
	@{ sed -n '/^#/p' requirements.lock; grep -v -E "sys_platform == '(win32|emscripten)'$$" $(VENV)/main.lock; } \
		> $(VENV)/new.lock
	@{ sed -n '/^#/p' requirements-legacy.lock; grep -v -x -F -f $(VENV)/main.lock $(VENV)/all.lock; } \
		> $(VENV)/new-legacy.lock
	@{ sed -n '/^#/p' requirements-adamw-8bit.lock; grep -v -x -F -f $(VENV)/main.lock $(VENV)/8bit.lock; } \
		> $(VENV)/new-8bit.lock
	@mv $(VENV)/new.lock requirements.lock
	@mv $(VENV)/new-legacy.lock requirements-legacy.lock
	@mv $(VENV)/new-8bit.lock requirements-adamw-8bit.lock
	@rm $(VENV)/all.lock $(VENV)/main.lock $(VENV)/8bit.lock
	@git --no-pager diff --stat -- requirements.lock requirements-legacy.lock requirements-adamw-8bit.lock

clean: ## remove all results but what is tracked
	@find results -mindepth 1 -maxdepth 1 ! -name README.md ! -name published -exec rm -rf {} + 2> /dev/null || true
	@rm -rf .snakemake

distclean: clean ## remove the environment too
	@rm -rf $(VENV)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2> /dev/null || { \
		echo "Python 3.11, 3.12 or 3.13 is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | head -n 1)." \
			"Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Could not make a virtual environment; on Debian and Ubuntu:" \
		"apt install python3-venv" >&2; rm -rf $(VENV); exit 1; }

$(STAMP): requirements.lock requirements-legacy.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV): a few minutes and 7 GB the first time"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock \
		-r requirements-legacy.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(UV): | $(VENV)/bin/python
	@$(BIN)/python -m venv $(VENV)/uv
	@$(VENV)/uv/bin/python -m pip install --quiet --disable-pip-version-check uv
