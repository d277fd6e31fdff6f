# Each target does its own set-up, once; it needs only Python 3.11 to 3.14, make and git.
.DEFAULT_GOAL := help
.PHONY: help setup demo unit test faults soak lint bench lock image sbom bundle clean

BIN := .venv/bin
IN_RANGE := -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null
PYTHON ?= $(shell for p in python3.14 python3.13 python3.12 python3.11 python3; do $$p $(IN_RANGE) && echo $$p && break; done)
NEEDS_PYTHON = test -n "$(PYTHON)" && "$(PYTHON)" $(IN_RANGE) || { \
	echo "Swath needs Python 3.11, 3.12, 3.13 or 3.14$(if $(PYTHON), and $(PYTHON) is another version)." \
		"Install one, or name it: make PYTHON=/path/to/python3.13 $@" >&2; exit 1; }
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --no-compile
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header
INSTALLED = $$(sed -n 's/^\([a-z0-9-]*\)==.*/--no-emit-package \1/p' requirements.lock | sort -u)
SEED ?= $(shell date +%s)
JOBS ?= 50
FAULTS ?= $(JOBS)
IMAGE ?=
BASE ?=
FLAVOUR ?=

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile

setup: .venv/ready ## .venv with the `swath` command in it

.venv/installed: requirements.lock
	@$(NEEDS_PYTHON)
	@echo "Setting up .venv with $$($(PYTHON) --version), once"
	@$(PYTHON) -m venv --clear .venv
	@$(PIP) --require-hashes -r $<
	@# byte code by all processors, where pip takes one, and none of the tests of libraries
	@$(BIN)/python -m compileall -qq -j 0 -x '/tests?/' .venv/lib || true # some files are for later versions of Python
	@touch $@

.venv/ready: .venv/installed pyproject.toml
	@$(PIP) --no-build-isolation -e .
	@$(BIN)/python -m deployments.local.prefect_server # migrates the database that is copied for each new Prefect server
	@$(BIN)/python -m tasks.merge # compiles the loops of the merge
	@touch $@

.venv/test .venv/lint .venv/bench: .venv/%: tests/%.lock .venv/installed
	@echo "Installing what make $* needs into .venv, once"
	@$(PIP) --require-hashes -r $<
	@touch $@

demo: setup ## the whole system on a generated harbour; IMAGE=path/to/any.tif for your own
	@exec $(BIN)/swath demo $(if $(IMAGE),--image "$(IMAGE)")

unit: setup .venv/test ## unit tests: no server, about a minute on two cores; after each change
	@$(BIN)/pytest tests/unit --numprocesses=3 --dist=worksteal --hypothesis-profile=quick

test: setup .venv/test ## unit and integration tests, and the quick fault tests
	@$(BIN)/pytest -m "not slow_fault" --numprocesses=4 --dist=loadfile --no-loadscope-reorder # in the order of tests/conftest.py

faults: setup .venv/test ## the slow fault tests: processes of the whole chain are killed
	@$(BIN)/pytest tests/faults -m slow_fault --numprocesses=4 --dist=loadfile --no-loadscope-reorder # they mostly wait

soak: setup .venv/test ## JOBS=50 jobs with FAULTS=50 faults, drawn from SEED=… and printed, so that they can be repeated
	@SOAK_SEED=$(SEED) SOAK_JOBS=$(JOBS) SOAK_FAULTS=$(FAULTS) $(BIN)/pytest tests/soak -q -s

lint: setup .venv/test .venv/lint ## ruff, ruff format, mypy --strict, import-linter, hadolint
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/hadolint Dockerfile

bench: setup .venv/test .venv/bench ## benchmarks, one JSON line each
	@$(BIN)/pytest tests/benchmarks -q -s

# All locks have the same versions; those of tests/ hold only packages that are not in requirements.lock.
lock: setup ## pin every dependency again
	@$(PIP) uv
	@$(COMPILE) --upgrade --all-extras --group setup --group test --group lint --group bench --output-file .venv/all.lock pyproject.toml
	@$(COMPILE) --constraint .venv/all.lock --extra formats --extra kubernetes --extra local --extra onnx --extra otel --extra python --extra sar --group setup --output-file requirements.lock pyproject.toml
	@$(COMPILE) --constraint .venv/all.lock $(INSTALLED) --group test --output-file tests/test.lock
	@$(COMPILE) --constraint .venv/all.lock $(INSTALLED) --group lint --output-file tests/lint.lock
	@$(COMPILE) --constraint .venv/all.lock $(INSTALLED) --group bench --output-file tests/bench.lock
	@$(COMPILE) --constraint .venv/all.lock --extra formats --extra kubernetes --extra onnx --extra otel --extra sar --output-file deployments/image/runtime.lock pyproject.toml
	@$(COMPILE) --constraint .venv/all.lock $(INSTALLED) --extra gpu --output-file deployments/image/gpu.lock pyproject.toml
	@$(COMPILE) --constraint .venv/all.lock --group image --output-file deployments/image/build.lock

image: ## the container image, with podman, docker or buildah; BASE=image@sha256:… to build upon, FLAVOUR=gpu for NVIDIA GPUs, FLAVOUR=http without ONNX
	@$(NEEDS_PYTHON)
	@exec $(PYTHON) -m deployments.image.build $(if $(BASE),--base "$(BASE)") $(if $(FLAVOUR),--flavour "$(FLAVOUR)")

sbom: ## sbom.cdx.json and licenses.txt: what is in that image, as CycloneDX, and the licences of it
	@$(NEEDS_PYTHON)
	@exec $(PYTHON) -m deployments.image.build $(if $(BASE),--base "$(BASE)") --sbom .

bundle: setup ## a tar from which Swath is installed without internet; IMAGE=swath to have the container image in it
	@exec $(BIN)/python -m deployments.bundle.build $(if $(IMAGE),--image "$(IMAGE)")

clean: ## remove the files that other targets made
	@rm -rf .venv .swath demo sbom.cdx.json licenses.txt swath-*.tar .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
