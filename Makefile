# Each target does its own set-up; only Python 3.11 or 3.12, make and git are taken for granted.
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint bench lock image sbom clean

BIN := .venv/bin
PYTHON ?= $(shell for p in python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header
NEEDS_PYTHON = test -n "$(PYTHON)" || { echo "Swath needs Python 3.11 or 3.12: install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; }
IMAGE ?=
BASE ?=

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile

setup: .venv/ready ## .venv with the `swath` command in it

.venv/ready: requirements.lock pyproject.toml
	@$(NEEDS_PYTHON)
	@echo "Setting up .venv with $$($(PYTHON) --version), once"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m deployments.local.server_for_command # migrates the database that every Prefect server starts from
	@$(BIN)/python -m tasks.merge # compiles its loops
	@touch $@

demo: setup ## the whole system on a generated harbour; IMAGE=path/to/any.tif for your own
	@exec $(BIN)/swath demo $(if $(IMAGE),--image "$(IMAGE)")

test: setup ## unit, integration and fault tests
	@$(BIN)/pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder # the quick unit tests last

lint: setup ## ruff, ruff format, mypy --strict, import-linter, hadolint
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/hadolint Dockerfile

bench: setup ## benchmarks, one JSON line each
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps lsnms==0.5.0 # asks for an older numba than it needs
	@$(BIN)/pytest tests/benchmarks -q -s

lock: setup ## pin every dependency anew
	@$(BIN)/python -m pip install --quiet uv
	@$(COMPILE) --upgrade --extra dev --output-file requirements.lock pyproject.toml
	@$(COMPILE) --constraint requirements.lock --extra onnx --extra sar --output-file deployments/image/runtime.lock pyproject.toml
	@$(COMPILE) --constraint requirements.lock --group image --output-file deployments/image/build.lock

image: ## the container image, with podman, docker or buildah; BASE=image@sha256:… to build upon
	@$(NEEDS_PYTHON)
	@exec $(PYTHON) -m deployments.image.build $(if $(BASE),--base "$(BASE)")

sbom: ## sbom.cdx.json: what is in that image, as CycloneDX
	@$(NEEDS_PYTHON)
	@exec $(PYTHON) -m deployments.image.build $(if $(BASE),--base "$(BASE)") --sbom .

clean: ## remove what the other targets made
	@rm -rf .venv .swath demo sbom.cdx.json .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
