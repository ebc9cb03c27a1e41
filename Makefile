# What a developer and CI run; `make help` lists it. Everything but test-gpu runs in .venv, at the versions of
# constraints.txt.

PYTHON ?= python3
GPU_PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
FETCHED := $(VENV)/.fetched
SOURCES := refine_export models scripts tests examples
GATE := refine-export-output/gate

# One thread per worker: two workers with two threads each would wait for each other on two cores.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(if $(COVERAGE),--cov --cov-append --cov-report=)

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-triton test-all test-gpu check gate format lint types docs coverage benchmark triton clean

help:  ## Show this list.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[torch,ort,rtx,page,dev]'
	@touch $@

$(FETCHED): $(READY)
	$(BIN)/refine-export weights get rife-4.0
	$(BIN)/python -c 'from refine_export.data.street_frames import street_frames; street_frames()'
	@touch $@

demo: $(FETCHED)  ## Run the main job on two real frames: refine-export-output/report.html.
	$(BIN)/refine-export run

test: $(READY)  ## Run the fast tests: no network, no server, no test over five seconds.
	$(PYTEST) -m 'not slow and not triton' tests/unit tests/contract

test-slow: $(READY)  ## Run the integration tests, those against a real Triton server included: the first run installs it.
	$(PYTEST) --no-loadscope-reorder -m 'slow or triton' # in order of path, which ends with the shortest files

test-triton: $(READY)  ## Run the tests against a real Triton server alone.
	$(PYTEST) -m triton

test-all: test test-slow  ## Run all tests but those that need a GPU.

test-gpu:  ## Run engines with GPU_PYTHON, which has '.[torch,ort,trt,dev]' or '.[torch,ort,rtx,dev]', a torch with CUDA and a GPU.
	$(GPU_PYTHON) -m pytest -m 'tensorrt or rtx_gpu' --require-tensorrt

check: lint types test  ## Run what every commit has to pass: format, lint, import contract, types, tests.

lint: $(READY)  ## Check the format, the lint rules and the import contract.
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/lint-imports --no-cache

types: $(READY)  ## Check the types.
	$(BIN)/mypy

format: $(READY)  ## Format the code, and fix what lint can fix.
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

docs: $(READY)  ## Build the documentation site in site/; any broken link or reference fails.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

coverage: $(READY)  ## Print the branch coverage of `make test test-triton COVERAGE=1`.
	$(BIN)/coverage report --skip-covered --skip-empty --fail-under=97

gate: $(FETCHED)  ## Make both graphs of the default weights, gate them, and prove that the gate can fail.
	$(BIN)/refine-export run --quiet --recipe .ci/gate.toml --output $(GATE)
	$(BIN)/refine-export gate $(GATE)/report.json --recipe .ci/gate.toml --require torch,ort
	$(BIN)/refine-export gate --quiet --self-test $(GATE)/refine.fp16.onnx --recipe .ci/gate.toml
	$(BIN)/refine-export gate --quiet --self-test $(GATE)/interpolator.fp16.onnx --recipe .ci/gate.toml

benchmark: $(READY)  ## Measure speed and memory (about ten minutes).
	$(BIN)/python scripts/benchmark.py

triton: $(READY)  ## Set up a real Triton server for a CPU in .triton: see docs/deploy.md.
	$(BIN)/python scripts/triton_server.py

clean:  ## Remove what was made, the environment included.
	rm -rf $(VENV) .triton refine-export-output dist site .mypy_cache .ruff_cache .pytest_cache .coverage
