# Needs Python 3.13, git and make; everything else is installed under .venv and .tools on first use.

# What a shell may carry that would change how tools behave here.
unexport PYTHONDONTWRITEBYTECODE PYTHONHOME PYTHONPATH VIRTUAL_ENV

PYTHON := .venv/bin/python
LOCKED := dev audit awscli bench emulator sam checkov uv
# Vulnerabilities that no release of ours can mend, with the reason:
# CVE-2026-7246 (click): aws-sam-cli pins click 8.1.8 and never calls click.edit(), the vulnerable function.
# CVE-2024-23342 (ecdsa): no fix is planned. Only signing leaks timing; checkov verifies alone.
ACCEPTED := CVE-2026-7246 CVE-2024-23342
COMPILE := .tools/uv/bin/uv pip compile --quiet --no-config --universal --python-version 3.13 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

.DEFAULT_GOAL := help
.PHONY: help setup build demo up down runbook test unit fuzz chaos check lint fmt bench lock parameters picture audit faults clean

help: ## what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## run the whole stack on this machine and send real messages through it; SAVE=docs/pictures/demo.svg draws it
	@infra/setup dev emulator
	@$(PYTHON) -m infra.local.demo $(if $(SAVE),--save $(SAVE))

up: ## start the stack on this machine and leave it running
	@infra/setup dev emulator sam
	@$(PYTHON) -m infra.local.background up

down: ## end what `make up` started
	@[ ! -e $(PYTHON) ] || $(PYTHON) -m infra.local.background down

runbook: ## run every command of docs/operations.md against the stack on this machine: minutes
	@infra/setup dev emulator sam awscli
	@$(PYTHON) -m pytest -n 0 tests/runbook/run.py

test: ## all tests
	@infra/setup
	$(PYTHON) -m pytest --numprocesses auto

unit: ## the tests that need neither emulator nor build, but for the thorough ones: seconds
	@infra/setup dev
	$(PYTHON) -m pytest --numprocesses auto -m "not thorough" tests/unit

fuzz: ## the property tests with forty times as many examples: minutes
	@infra/setup dev
	HYPOTHESIS_PROFILE=long $(PYTHON) -m pytest --numprocesses auto -m hypothesis

chaos: ## thousands of ids while everything fails, then the books: minutes; IDS=, SECONDS=; it says how to replay it
	@infra/setup dev emulator
	@$(PYTHON) -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(IDS),--ids $(IDS)) $(if $(SECONDS),--seconds $(SECONDS)) \
		$(if $(KILL_EVERY),--kill-every $(KILL_EVERY))

check: ## the gate: format, lint, types, template, all tests, at the same time
	@infra/setup
	@$(MAKE) --no-print-directory --jobs=2 lint test

lint: ## format, lint, types, template
	@infra/setup
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m ruff check
	$(PYTHON) -m mypy
	$(PYTHON) -m infra.lint

fmt: ## format, and mend what ruff can mend
	@infra/setup dev
	$(PYTHON) -m ruff format
	$(PYTHON) -m ruff check --fix

bench: ## measure the goals and write docs/performance.md: about ten minutes, needs valgrind
	@infra/setup dev bench
	@$(PYTHON) -m tests.bench

build: ## what `sam deploy` uploads, in .aws-sam/build
	@infra/setup sam
	SAM_CLI_TELEMETRY=0 .tools/sam/bin/sam build

parameters: ## write docs/parameters.md from template.yaml
	@infra/setup dev
	$(PYTHON) -m infra.parameters

picture: ## write docs/pictures/fleet.svg, an example of `devin-ops sweep --chart`
	@infra/setup dev
	@PYTHONPATH=functions $(PYTHON) -m infra.fleet_picture

setup: ## install everything now instead of on first use
	@infra/setup

lock: ## compile the pins anew; UPGRADE=1 takes the newest versions
	@infra/setup uv
	$(COMPILE) $(if $(UPGRADE),--upgrade) infra/requirements/runtime.in -o requirements.txt
	for name in $(LOCKED); do \
		$(COMPILE) $(if $(UPGRADE),--upgrade) infra/requirements/$$name.in -o infra/requirements/$$name.txt || exit; \
	done

audit: ## ask PyPI which pins have known vulnerabilities, and write the list of what ships to .local/sbom.cdx.json
	@infra/setup audit
	@mkdir -p .local
	.tools/audit/bin/cyclonedx-py requirements --output-reproducible --output-file .local/sbom.cdx.json requirements.txt
	for lock in requirements.txt infra/requirements/*.txt; do echo "$$lock" && .tools/audit/bin/pip-audit --strict \
		--require-hashes --disable-pip --progress-spinner off $(ACCEPTED:%=--ignore-vuln=%) --requirement "$$lock" || exit; \
	done

faults: ## write docs/faults.md from the markers on the tests
	@infra/setup dev
	$(PYTHON) -m tests.faults

clean: down ## end the stack; remove builds and caches, keep the environments
	rm -rf .aws-sam .local .hypothesis .mypy_cache .pytest_cache .ruff_cache .schemathesis
	find . -path ./.venv -prune -o -path ./.tools -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
