# `make` lists the targets. SCALE, PAPERS, CORES and PROFILE select what `make reproduce` runs.
SCALE ?= smoke
PAPERS ?= all
CORES ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
PYTHON ?= python3
PROFILE ?= default

# The stamp carries the hash of what defines the environment: touching a file, or a fresh checkout's times, reinstall nothing.
ENVIRONMENT := $(shell cat requirements.lock pyproject.toml | $(PYTHON) -c "import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest()[:16])")
STAMP := .venv/installed-$(ENVIRONMENT)
BIN := .venv/bin
# The cores of a login node are no limit for what runs on a cluster.
LIMIT := $(if $(filter default,$(PROFILE)),--cores $(CORES))
SNAKEMAKE = $(BIN)/snakemake --profile workflow/profiles/$(PROFILE) $(LIMIT) --config scale=$(SCALE) papers=$(PAPERS)

.DEFAULT_GOAL := help
.PHONY: help reproduce test test-cluster doctor lint format check plan report scoreboard audit snapshot remote benchmark lock clean

help: ## List the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'
	@echo "  variables   SCALE=smoke|laptop|paper  PAPERS=all|inclass,...  CORES=N  PROFILE=default|slurm|generic"

$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing the locked environment into .venv"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@rm -f .venv/installed-*
	@touch $@

reproduce: $(STAMP) ## Run the pipeline: data, training, tables, figures, comparison, report.
	$(SNAKEMAKE)

test: $(STAMP) ## Run the tests.
	$(BIN)/pytest -n 2 --dist worksteal

test-cluster: $(STAMP) ## Run the smoke pipeline and every fault on a private Slurm (minutes; root, Debian's Slurm).
	$(BIN)/pytest -n 2 --dist loadfile -v tests/cluster

doctor: $(STAMP) ## Say what is missing before a run: PROFILE=slurm looks at the cluster as well.
	@$(BIN)/neumix doctor --profile $(PROFILE) --scale $(SCALE) --papers $(PAPERS)

lint: $(STAMP) ## Check style, types, workflow, and that every number shown comes from a file.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow/rules
	$(BIN)/snakemake --lint
	$(BIN)/neumix check
	$(BIN)/neumix numbers

format: $(STAMP) ## Format the code.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow/rules

check: $(STAMP) ## Say what would run, without running it.
	$(SNAKEMAKE) --dry-run

plan: $(STAMP) ## Say what would run and what it would cost: WORKERS=N for a cluster, MAX_GPU_HOURS=H as a limit.
	$(BIN)/neumix plan --scale $(SCALE) --papers $(PAPERS) --cores $(CORES) --profile workflow/profiles/$(PROFILE) \
		$(if $(WORKERS),--workers $(WORKERS)) $(if $(MAX_GPU_HOURS),--max-gpu-hours $(MAX_GPU_HOURS)) $(TARGETS)

report: $(STAMP) ## Rebuild the HTML report from the results on disk.
	$(BIN)/neumix report --scale $(SCALE)

scoreboard: $(STAMP) ## Rewrite the generated scoreboard in README.md.
	$(BIN)/neumix scoreboard

audit: $(STAMP) ## Recompute every hash and derived value behind the results.
	$(BIN)/neumix audit --scale $(SCALE)

snapshot: audit ## Pack weights and arrays for DVC, if the audit finds nothing.
	$(BIN)/neumix snapshot --scale $(SCALE)

remote: $(STAMP) ## Use URL as the place that `dvc push` and `dvc pull` talk to, on this machine.
	@test -n "$(URL)" || { echo "say where: make remote URL=/a/folder (or s3://bucket/path, ssh://host/path)"; exit 1; }
	$(BIN)/dvc remote modify --local storage url $(URL)
	$(BIN)/dvc remote default --local storage

benchmark: $(STAMP) ## Measure speed and memory on this machine (minutes).
	$(BIN)/python benchmarks/run.py

lock: ## Resolve pyproject.toml anew and rewrite requirements.lock.
	@rm -rf .lock && $(PYTHON) -m venv .lock
	@.lock/bin/pip install --quiet --disable-pip-version-check ".[dev]"
	@.lock/bin/pip freeze --exclude neumix | sed 's/+cpu$$//' > requirements.lock
	@rm -rf .lock

clean: ## Delete the environment, logs and the smoke results; data and other results stay.
	rm -rf .venv .snakemake logs results/smoke
