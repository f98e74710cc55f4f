# Needs Python 3.13, git and make; everything else is installed under .venv and .tools on first use.

# What a shell may carry that would change how tools behave here.
unexport PYTHONDONTWRITEBYTECODE PYTHONHOME PYTHONPATH VIRTUAL_ENV

PYTHON := .venv/bin/python
TEMPLATES := template.yaml $(wildcard infra/*.yaml)
LOCKED := emulator sam checkov fuzz uv
COMPILE := .tools/uv/bin/uv pip compile --quiet --no-config --universal --python-version 3.13 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

.DEFAULT_GOAL := help
.PHONY: help setup build demo up down test unit fuzz check lint fmt lock clean

help: ## what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## run the whole stack on this machine and send real messages through it
	@infra/setup dev emulator sam
	@$(PYTHON) -m infra.local.demo

up: ## start the stack on this machine and leave it running
	@infra/setup dev emulator sam
	@$(PYTHON) -m infra.local.background up

down: ## end what `make up` started
	@[ ! -e $(PYTHON) ] || $(PYTHON) -m infra.local.background down

test: ## all tests
	@infra/setup
	$(PYTHON) -m pytest

unit: ## the tests that need neither emulator nor build: seconds
	@infra/setup dev
	$(PYTHON) -m pytest tests/unit

fuzz: ## a million random inputs; N=, SEED=, TARGET= choose; GUIDED=<target> runs Atheris until Ctrl-C
ifdef GUIDED
	@infra/setup fuzz
	.tools/fuzz/bin/python tests/fuzz/guided.py $(GUIDED) $(OPTIONS)
else
	@infra/setup dev
	$(PYTHON) -m tests.fuzz $(if $(N),--inputs $(N)) $(if $(SEED),--seed $(SEED)) $(if $(TARGET),--target $(TARGET))
endif

check: lint test ## the gate: format, lint, types, template, all tests

lint: ## format, lint, types, template
	@infra/setup
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m ruff check
	$(PYTHON) -m mypy
	.venv/bin/cfn-lint $(TEMPLATES)
	.tools/checkov/bin/checkov --quiet --compact --skip-download --framework cloudformation --file $(TEMPLATES)
	$(PYTHON) -m infra.local.sam validate --lint

fmt: ## format, and mend what ruff can mend
	@infra/setup dev
	$(PYTHON) -m ruff format
	$(PYTHON) -m ruff check --fix

build: ## what `sam deploy` uploads, in .aws-sam/build
	@infra/setup dev sam
	$(PYTHON) -m infra.local.sam build

setup: ## install everything now instead of on first use
	@infra/setup

lock: ## compile the pins anew; UPGRADE=1 takes the newest versions
	@infra/setup uv
	$(COMPILE) $(if $(UPGRADE),--upgrade) infra/requirements/runtime.in -o requirements.txt
	$(COMPILE) $(if $(UPGRADE),--upgrade) infra/requirements/dev.in -o infra/requirements/dev.txt
	for name in $(LOCKED); do \
		$(COMPILE) $(if $(UPGRADE),--upgrade) infra/requirements/$$name.in -o infra/requirements/$$name.txt || exit; \
	done

clean: down ## end the stack; remove builds and caches, keep the environments
	rm -rf .aws-sam .fuzz .local .hypothesis .mypy_cache .pytest_cache .ruff_cache .schemathesis
	find . -path ./.venv -prune -o -path ./.tools -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
