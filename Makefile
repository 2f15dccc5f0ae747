SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
SERVICE := .venv/.service
TEST := .venv/.test
LINT := .venv/.lint
KERNELS := .venv/.kernels
BENCH_BIN := .venv-bench/bin
BENCH_STAMP := .venv-bench/.installed
RAY_BIN := .venv-ray/bin
RAY_STAMP := .venv-ray/.installed
NOTEBOOKS_BIN := .venv-notebooks/bin
NOTEBOOKS_STAMP := .venv-notebooks/.installed
BROWSER_BIN := .venv-browser/bin
BROWSER_STAMP := .venv-browser/.installed
TRITON_BIN := .venv-triton/bin
TRITON_STAMP := .venv-triton/.installed
COLLECTOR_BIN := .venv-collector/bin
COLLECTOR_STAMP := .venv-collector/.installed
ADAPTERS_BIN := .venv-adapters/bin
ADAPTERS_STAMP := .venv-adapters/.installed
DOCS_BIN := .venv-docs/bin
DOCS_STAMP := .venv-docs/.installed
MINIMUM_BIN := .venv-minimum/bin
MINIMUM_STAMP := .venv-minimum/.installed
PROFILE ?= cpu
MINUTES ?= 4
COMPOSE := docker compose --file docker/compose.yaml --profile $(PROFILE)

NATIVE := kernels/matfn_kernels/linalg/native
LIBRARY := $(NATIVE)/libmatfn_native.so
NATIVE_SOURCES := hatch_build.py $(wildcard $(NATIVE)/*.[ch] $(NATIVE)/*.inc)

CHART := docker/helm/matfn
MANIFESTS := $(filter-out %/kustomization.yaml,$(wildcard docker/kubernetes/*.yaml))

.PHONY: help demo test test-adapters test-triton collector compatibility browser screenshots languages examples notebooks test-machines sanitize faults soak hostile mutations ray lint observability image lock serve up down bench study native kernels test-gpu bench-gpu format wheel clean test-cov test-minimum hooks docs pictures

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 16

# why $(PYTHON) cannot run matfn, in one sentence; nothing where it can
UNFIT = $(shell $(PYTHON) scripts/unfit_python.py 2> /dev/null || echo '$(PYTHON) does not start; matfn needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.12 names one')
VENV = $(if $(UNFIT),$(error $(UNFIT)))$(PYTHON) -m venv
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check -c constraints.txt

# one environment, and a stamp for each thing that is asked for: service, then test, then lint
$(SERVICE): pyproject.toml constraints.txt
	@$(VENV) .venv
	@echo "Installing the service into .venv (torch, scipy, FastAPI, hatchling for the kernels in C): about 1.2 GB, more with a torch for CUDA"
	$(BIN)/python $(PIP_INSTALL) hatchling -e '.[service]'
	@touch $@

# the editable matfn is there, so that pip adds only what the extra names
$(TEST): $(SERVICE)
	@echo "Installing into .venv what the tests need (pytest, hypothesis, triton): about 1.1 GB more"
	$(BIN)/python $(PIP_INSTALL) 'matfn[test]'
	@touch $@

$(LINT): $(TEST)
	@echo "Installing into .venv what lints (mypy, import-linter, hadolint, uv): about 0.3 GB more"
	$(BIN)/python $(PIP_INSTALL) 'matfn[lint]'
	@touch $@

# pip has just compiled them; where there was no compiler it kept that to itself
$(KERNELS): $(SERVICE) $(NATIVE_SOURCES)
	@[ -e $(LIBRARY) ] && [ -z "$$(find $(NATIVE_SOURCES) -newer $(LIBRARY))" ] || $(BIN)/python hatch_build.py
	@touch $@

$(BENCH_STAMP): pyproject.toml constraints.txt $(NATIVE_SOURCES)
	@$(VENV) .venv-bench
	$(BENCH_BIN)/python $(PIP_INSTALL) -e '.[bench]'
	@touch $@

$(ADAPTERS_STAMP): pyproject.toml constraints.txt $(NATIVE_SOURCES)
	@$(VENV) .venv-adapters
	$(ADAPTERS_BIN)/python $(PIP_INSTALL) -e '.[adapters]'
	@touch $@

$(BROWSER_STAMP): pyproject.toml constraints.txt $(NATIVE_SOURCES)
	@$(VENV) .venv-browser
	$(BROWSER_BIN)/python $(PIP_INSTALL) -e '.[browser]'
	@touch $@

$(TRITON_STAMP): pyproject.toml constraints.txt $(NATIVE_SOURCES)
	@$(VENV) .venv-triton
	$(TRITON_BIN)/python $(PIP_INSTALL) -e '.[triton]'
	@touch $@

$(COLLECTOR_STAMP): pyproject.toml constraints.txt $(NATIVE_SOURCES)
	@$(VENV) .venv-collector
	$(COLLECTOR_BIN)/python $(PIP_INSTALL) -e '.[collector]'
	@touch $@

$(NOTEBOOKS_STAMP): pyproject.toml constraints.txt $(NATIVE_SOURCES)
	@$(VENV) .venv-notebooks
	$(NOTEBOOKS_BIN)/python $(PIP_INSTALL) -e '.[notebooks]'
	@touch $@

$(DOCS_STAMP): pyproject.toml constraints.txt $(NATIVE_SOURCES)
	@$(VENV) .venv-docs
	$(DOCS_BIN)/python $(PIP_INSTALL) -e '.[docs]'
	@touch $@

$(RAY_STAMP): pyproject.toml constraints.txt $(NATIVE_SOURCES)
	@$(VENV) .venv-ray
	$(RAY_BIN)/python $(PIP_INSTALL) -e '.[ray]'
	@touch $@

# the oldest releases that pyproject.toml allows, for the Python at hand; torch is pinned, and its build for CPUs names no others
$(MINIMUM_STAMP): pyproject.toml constraints.txt $(NATIVE_SOURCES)
	@$(VENV) .venv-minimum
	$(MINIMUM_BIN)/python -m pip install --quiet --disable-pip-version-check uv
	grep '^torch==' constraints.txt > .venv-minimum/torch.txt
	$(MINIMUM_BIN)/uv pip compile pyproject.toml --quiet --extra test --resolution lowest-direct --no-header --no-annotate \
		--python $(MINIMUM_BIN)/python --constraints .venv-minimum/torch.txt --output-file .venv-minimum/all.txt
	grep -Ev '^(torch|triton|nvidia-.*|cuda-.*)==' .venv-minimum/all.txt > .venv-minimum/lowest.txt
	$(MINIMUM_BIN)/python -m pip install --quiet --disable-pip-version-check -r .venv-minimum/lowest.txt -r .venv-minimum/torch.txt
	$(MINIMUM_BIN)/python -m pip install --quiet --disable-pip-version-check -c .venv-minimum/torch.txt -e '.[test]'
	@touch $@

demo: $(KERNELS) ## the service on a free port, real matrices from 16 callers, every answer checked against float64
	$(BIN)/python demo/demo.py

# two processes for two cores, equally long, of one thread each: threads of both would spin while they wait for one another;
# in the second one tests wait for servers, and it goes first
COMPUTING := $(addprefix tests/,kernels client optim benchmarks deployment)
test: export OMP_NUM_THREADS := 1
test: $(TEST) $(KERNELS) ## the whole test suite, some of the kernels' also as on three other machines
	{ nice -n 5 $(BIN)/python -m pytest $(COMPUTING) && nice -n 5 $(BIN)/python scripts/test_machines.py --short; } \
		> .venv/computing-tests.txt 2>&1 & computing=$$!; \
	$(BIN)/python -m pytest $(COMPUTING:%=--ignore=%); others=$$?; \
	wait $$computing; computing=$$?; cat .venv/computing-tests.txt; exit $$((others | computing))

test-cov: $(TEST) $(KERNELS) ## the whole test suite, with the lines and branches that it runs; fails below the floor in pyproject.toml
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

test-minimum: $(MINIMUM_STAMP) ## the whole test suite with the oldest dependencies that pyproject.toml allows
	$(MINIMUM_BIN)/python -m pytest

test-adapters: $(ADAPTERS_STAMP) ## matfn.adapters against the libraries that they stand beside: optax, pyriemann, torchmetrics
	$(ADAPTERS_BIN)/python -m pytest tests/adapters

compatibility: $(TEST) $(KERNELS) ## the last release's client with this server, and this client with its server; needs git's history
	$(BIN)/python -m pytest tests/compatibility

test-triton: $(TRITON_STAMP) ## the four clients of tritonclient over every function, in an environment of their own
	$(TRITON_BIN)/python -m pytest tests/triton

collector: $(COLLECTOR_STAMP) ## traces and metrics of a mixed load through Rotel, a collector of OpenTelemetry, in an environment of its own
	$(COLLECTOR_BIN)/python -m pytest tests/collector

browser: $(BROWSER_STAMP) ## the page in a browser, axe-core too; needs Chromium: apt-get install chromium fonts-dejavu-core fonts-wqy-microhei
	$(BROWSER_BIN)/python -m pytest tests/browser

screenshots: $(BROWSER_STAMP) $(KERNELS) ## docs/screenshots, of the page against a server of its own; needs Chromium
	$(BROWSER_BIN)/python scripts/take_screenshots.py

languages: $(TEST) $(KERNELS) ## examples/clients in JavaScript, R and Octave against a server; apt-get install nodejs octave r-base-core r-cran-curl r-cran-jsonlite
	$(BIN)/python -m pytest tests/languages

examples: $(KERNELS) ## every example, each under two minutes
	for example in examples/*.py; do $(BIN)/python $$example || exit 1; done

notebooks: $(NOTEBOOKS_STAMP) $(KERNELS) ## examples/notebooks: each script executed, and saved with its pictures as a notebook
	PATH=$(CURDIR)/$(NOTEBOOKS_BIN):$$PATH $(NOTEBOOKS_BIN)/jupytext --to ipynb --execute --set-kernel python3 examples/notebooks/*.py

docs: $(DOCS_STAMP) ## the documentation site in site/, and for the service at /docs/; offline, warnings are errors
	NO_MKDOCS_2_WARNING=1 $(DOCS_BIN)/mkdocs build --quiet --strict
	@echo "site/index.html; make serve has it at http://127.0.0.1:8000/docs/"

pictures: $(NOTEBOOKS_STAMP) $(KERNELS) ## docs/pictures: each script draws the picture of its name
	for script in docs/pictures/*.py; do $(NOTEBOOKS_BIN)/python $$script || exit 1; done

hooks: $(LINT) ## make lint before each commit
	$(BIN)/pre-commit install

test-machines: $(TEST) $(KERNELS) ## the kernels' tests as on other machines: instruction sets, BLAS, threads; about an hour
	$(BIN)/python scripts/test_machines.py

sanitize: $(TEST) ## the kernels in C under AddressSanitizer and UBSan, with allocations that fail; needs gcc's libasan
	$(BIN)/python scripts/sanitize.py

faults: $(TEST) $(KERNELS) ## 100 rounds of random faults under load, every answer checked; about twenty minutes
	$(BIN)/python benchmarks/random_faults.py

soak: $(BENCH_STAMP) ## a few of these rounds, then MINUTES=4 of traffic with faults: fails where memory or descriptors grow
	$(BENCH_BIN)/python benchmarks/random_faults.py --rounds 4
	$(BENCH_BIN)/python benchmarks/soak.py --minutes $(MINUTES)

hostile: $(TEST) $(KERNELS) ## what hostile callers cost the service: memory, gaps of the event loop, errors, hangs
	$(BIN)/python benchmarks/hostile.py

mutations: $(BENCH_STAMP) $(KERNELS) ## 50 000 damaged requests, each judged, some compared; Schemathesis on /openapi.json; half an hour
	$(BENCH_BIN)/python benchmarks/mutations.py
	$(BENCH_BIN)/python benchmarks/openapi_trial.py

ray: $(RAY_STAMP) ## two Ray replicas under load, one killed, both replaced; batches by router; about five minutes
	$(RAY_BIN)/python benchmarks/bench_ray.py

lint: $(LINT) ## formatting, lint rules, spelling, types, import contracts, warnings in C, generated files up to date, Dockerfile, manifests, chart
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python hatch_build.py --check
	$(BIN)/python scripts/generate_methods.py --check
	$(BIN)/python scripts/generate_function_pages.py --check
	$(BIN)/python scripts/list_settings.py --check
	$(BIN)/docker-compose --file docker/compose.yaml --profile cpu --profile gpu config --quiet
	$(BIN)/python scripts/lock_requirements.py --check
	$(BIN)/hadolint Dockerfile
	$(BIN)/kubernetes-validate --strict --quiet $(MANIFESTS)
	for values in $(CHART)/values.yaml $(CHART)/ci/*.yaml; do \
		$(BIN)/helm lint --strict --quiet $(CHART) --values $$values || exit 1; \
		$(BIN)/helm template matfn $(CHART) --values $$values | $(BIN)/kubernetes-validate --strict --quiet /dev/stdin || exit 1; \
	done

observability: ## Prometheus' own checks of its configuration, the alerts and their tests; needs promtool
	promtool check config --syntax-only docker/prometheus/prometheus.yml
	promtool check rules docker/prometheus/rules.yml
	promtool test rules docker/prometheus/rules_test.yml

image: $(KERNELS) docs ## the image, built and tried: docker, podman or buildah; see docs/operations.md for BUILD_FLAGS and RUN_FLAGS
	PYTHONPATH=demo $(BIN)/python scripts/image.py

lock: $(LINT) ## the versions and hashes that the image is made of
	PATH=$(BIN):$$PATH $(BIN)/python scripts/lock_requirements.py

serve: $(KERNELS) ## the service in the foreground on http://127.0.0.1:8000
	$(BIN)/matfn serve

up: docker/secrets/api_keys docker/secrets/grafana_password ## matfn, Prometheus and Grafana in containers; PROFILE=gpu for CUDA
	$(COMPOSE) up --build --detach --wait

down: ## ends what make up started; what it has stored stays
	$(COMPOSE) down

# readable for the containers' users, in a folder that others cannot enter
docker/secrets/%:
	@install -d -m 700 $(@D)
	@$(PYTHON) -c 'import secrets; print(secrets.token_urlsafe(32))' > $@ && chmod 644 $@

docker/secrets/api_keys: docker/secrets/caller_key docker/secrets/metrics_key
	@cat $^ > $@ && chmod 644 $@

bench: $(BENCH_STAMP) ## the benchmarks, tables under benchmarks/results/, on a quiet machine
	$(BENCH_BIN)/python benchmarks/bench_callers.py > benchmarks/results/callers.md
	$(BENCH_BIN)/python benchmarks/bench_small_calls.py > benchmarks/results/small_calls.md
	$(BENCH_BIN)/python benchmarks/bench_bodies.py > benchmarks/results/bodies.md
	$(BENCH_BIN)/python benchmarks/bench_carrying.py > benchmarks/results/carrying.md
	$(BENCH_BIN)/python benchmarks/bench_triangles.py > benchmarks/results/triangles.md
	$(BENCH_BIN)/python benchmarks/bench_cheap.py > benchmarks/results/cheap.md
	$(BENCH_BIN)/python benchmarks/bench_metrics.py > benchmarks/results/metrics.md
	$(BENCH_BIN)/python benchmarks/bench_memory.py > benchmarks/results/memory.md
	$(BENCH_BIN)/python benchmarks/bench_fairness.py > benchmarks/results/fairness.md
	$(BENCH_BIN)/python benchmarks/bench_server.py
	$(BENCH_BIN)/python benchmarks/overload.py > benchmarks/results/overload.md
	$(BENCH_BIN)/python benchmarks/bench_engine.py > benchmarks/results/engine.md
	$(BENCH_BIN)/python benchmarks/bench_eigh.py > benchmarks/results/eigh.md
	$(BENCH_BIN)/python benchmarks/bench_roots.py > benchmarks/results/roots.md
	$(BENCH_BIN)/python benchmarks/bench_spectral.py > benchmarks/results/spectral.md
	OMP_NUM_THREADS=1 $(BENCH_BIN)/python benchmarks/bench_equations.py > benchmarks/results/equations.md
	$(BENCH_BIN)/python benchmarks/bench_functions.py
	$(BENCH_BIN)/python benchmarks/bench_accuracy.py
	$(BENCH_BIN)/python benchmarks/scaling.py

study: $(BENCH_STAMP) ## estimates of certificates against true errors: every function, dtype and method; under ten minutes
	$(BENCH_BIN)/python benchmarks/study_certificates.py --plot benchmarks/results/certificates.png > benchmarks/results/certificates.md

native: $(SERVICE) ## the CPU kernels in C, compiled anew: after a change of compiler, say; CC names it
	$(BIN)/python hatch_build.py

kernels: $(TEST) $(KERNELS) ## the GPU kernels, compiled without a GPU: registers, spills, shared memory, tensor cores
	$(BIN)/python scripts/compile_kernels.py > benchmarks/results/kernels.md

# of the kernels' own tests those that hold on any device; others say what LAPACK does, or have not been looked at there
GPU_TESTS := tests/gpu $(patsubst %,tests/kernels/test_%.py,accuracy attention batch_composition)

test-gpu: $(TEST) $(KERNELS) ## the tests that a GPU can run, on a GPU
	$(BIN)/python -m pytest --device cuda $(GPU_TESTS)

bench-gpu: $(TEST) $(KERNELS) ## products, iterations, whole programs and the service against torch's, on a GPU
	$(BIN)/python benchmarks/bench_gpu.py > benchmarks/results/gpu.md
	$(BIN)/python benchmarks/bench_gpu_service.py > benchmarks/results/gpu_service.md

format: $(LINT) ## rewrite the tree as the formatter wants it
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python scripts/generate_methods.py
	$(BIN)/python scripts/generate_function_pages.py
	$(BIN)/python scripts/list_settings.py

wheel: $(TEST) ## the source archive and this machine's wheel, in dist/
	$(BIN)/python -m build

clean: ## remove what make made
	rm -rf .venv .venv-adapters .venv-browser .venv-collector .venv-triton .venv-notebooks .venv-bench .venv-ray .venv-minimum .coverage .coverage.* dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache $(NATIVE)/*.so .venv-docs site service/matfn_service/site.zip
