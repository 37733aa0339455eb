# `make test` and `make demo` start from a bare Debian 12 with git, make and python3.11.

PYTHON = .venv/bin/python
# Two workers, whole files each: module fixtures (registries, images) are made once per worker.
PYTEST_ARGS ?= -n 2 --dist loadfile

# Start-up times are only real when Python may keep its compiled files.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help test demo lint interop conformance bench clean bootstrap

help:
	@echo "make test     everything CI runs"
	@echo "make demo     a real image through two registries, with every command shown"
	@echo "make lint     formatter, linter, types and import contract only"
	@echo "make interop  exchange images with crane, regctl, oras, cosign and containers/image (needs go)"
	@echo "make conformance ANCHORS=dir  run the test data of others (see docs/conformance.md)"
	@echo "make bench    time this project beside its peers"
	@echo "make clean    remove what the targets above made"

bootstrap:
	@scripts/bootstrap dev

test: bootstrap
	@$(PYTHON) -m pytest $(PYTEST_ARGS) tests

demo:
	@scripts/bootstrap demo
	@$(PYTHON) scripts/demo

lint: bootstrap
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	.venv/bin/lint-imports --no-cache

interop: bootstrap
	@scripts/interop

conformance: bootstrap
	@$(PYTHON) scripts/conformance "$(ANCHORS)"

bench: bootstrap
	@$(PYTHON) -m bench

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
