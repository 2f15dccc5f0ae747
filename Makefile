SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
BENCH_BIN := .venv-bench/bin
BENCH_STAMP := .venv-bench/.installed

.PHONY: help demo test soak lint serve bench kernels bench-gpu format wheel clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(BENCH_STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-bench
	$(BENCH_BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@

demo: $(STAMP) ## the service on a free port, real matrices from 16 callers, every answer checked against float64
	$(BIN)/python demo/demo.py

test: $(STAMP) ## the whole test suite
	$(BIN)/python -m pytest

soak: $(STAMP) ## faults and overload until leaks and unfairness would show, about four minutes
	$(BIN)/python -m pytest --soak tests/end_to_end/test_faults.py
	$(BIN)/python benchmarks/overload.py

lint: $(STAMP) ## formatting, lint rules, types, import contracts, generated code up to date
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/generate_methods.py --check
	$(BIN)/python scripts/list_settings.py --check

serve: $(STAMP) ## the service in the foreground on http://127.0.0.1:8000
	$(BIN)/matfn serve

bench: $(BENCH_STAMP) ## the benchmarks, tables under benchmarks/results/, on a quiet machine
	$(BENCH_BIN)/python benchmarks/bench_callers.py > benchmarks/results/callers.md
	$(BENCH_BIN)/python benchmarks/bench_bodies.py > benchmarks/results/bodies.md
	$(BENCH_BIN)/python benchmarks/bench_triangles.py > benchmarks/results/triangles.md
	$(BENCH_BIN)/python benchmarks/bench_server.py

kernels: $(STAMP) ## the GPU kernels, compiled without a GPU: registers, spills, shared memory, tensor cores
	$(BIN)/python scripts/compile_kernels.py > benchmarks/results/kernels.md

bench-gpu: $(STAMP) ## the GPU kernels against torch's, on a GPU
	$(BIN)/python benchmarks/bench_gpu.py

format: $(STAMP) ## rewrite the tree as the formatter wants it
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python scripts/generate_methods.py
	$(BIN)/python scripts/list_settings.py

wheel: $(STAMP) ## the wheel, in dist/
	$(BIN)/python -m build --wheel

clean: ## remove what make made
	rm -rf .venv .venv-bench dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
