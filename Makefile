SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help demo test lint serve bench format wheel clean

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP) ## the service on a free port, real matrices from 16 callers, every answer checked against float64
	$(BIN)/python demo/demo.py

test: $(STAMP) ## the whole test suite
	$(BIN)/python -m pytest

lint: $(STAMP) ## formatting, lint rules, types, import contracts, generated code up to date
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/generate_methods.py --check
	$(BIN)/python scripts/list_settings.py --check

serve: $(STAMP) ## the service in the foreground on http://127.0.0.1:8000
	$(BIN)/matfn serve

bench: $(STAMP) ## the benchmarks, tables under benchmarks/results/
	$(BIN)/python benchmarks/bench_callers.py > benchmarks/results/callers.md
	$(BIN)/python benchmarks/bench_bodies.py > benchmarks/results/bodies.md
	$(BIN)/python benchmarks/bench_triangles.py > benchmarks/results/triangles.md

format: $(STAMP) ## rewrite the tree as the formatter wants it
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python scripts/generate_methods.py
	$(BIN)/python scripts/list_settings.py

wheel: $(STAMP) ## the wheel, in dist/
	$(BIN)/python -m build --wheel

clean: ## remove what make made
	rm -rf .venv dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
