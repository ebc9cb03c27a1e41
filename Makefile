# One place for what a developer and CI do; `make help` lists it. Everything but test-gpu runs in .venv, at the
# versions of constraints.txt.

PYTHON ?= python3
GPU_PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SOURCES := refine_export models scripts tests
GATE := refine-export-output/gate

.DEFAULT_GOAL := help
.PHONY: help demo test test-gpu check gate format lint types benchmark triton clean

help:  ## Show this list.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[torch,ort,dev]'
	@touch $@

demo: $(READY)  ## Run the main job on sample frames: refine-export-output/report.html.
	$(BIN)/refine-export run

test: $(READY)  ## Run the tests.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

test-gpu:  ## Run the tests of the real TensorRT with GPU_PYTHON, which has '.[torch,ort,trt,dev]', a torch with CUDA and a GPU.
	$(GPU_PYTHON) -m pytest -m tensorrt --require-tensorrt

check: lint types test  ## Run the whole gate: format, lint, types, tests.

lint: $(READY)  ## Check the format and lint.
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)

types: $(READY)  ## Check the types.
	$(BIN)/mypy

format: $(READY)  ## Format the code, and fix what lint can fix.
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

gate: $(READY)  ## Make both graphs from sample frames, gate them, and prove that the gate can fail.
	$(BIN)/refine-export run --quiet --recipe .ci/gate.toml --output $(GATE)
	$(BIN)/refine-export gate $(GATE)/report.json --recipe .ci/gate.toml --require torch,ort
	$(BIN)/refine-export gate --quiet --self-test $(GATE)/refine.fp16.onnx --recipe .ci/gate.toml
	$(BIN)/refine-export gate --quiet --self-test $(GATE)/interpolator_m.fp16.onnx --recipe .ci/gate.toml

benchmark: $(READY)  ## Measure speed and memory (about ten minutes).
	$(BIN)/python scripts/benchmark.py

triton: $(READY)  ## Set up a real Triton server for a CPU in .triton: see docs/deploy.md.
	$(BIN)/python scripts/triton_server.py

clean:  ## Remove what was made, the environment included.
	rm -rf $(VENV) .triton refine-export-output dist .mypy_cache .ruff_cache .pytest_cache
