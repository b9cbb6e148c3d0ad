# Two commands do all the set-up: `make repro` runs the whole line, `make test` runs the tests.
PYTHON ?= python3
VENV := $(CURDIR)/.venv
export PATH := $(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
# Threads that wait for each other sleep: spinning ones made a step of digits-vae take seconds beside other work.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help install repro ui test test-long lint docs lock clean
help:
	@echo "make repro      set up, build the embedded data, run the whole line, record it in MLflow"
	@echo "make ui         open the MLflow UI on it (http://127.0.0.1:5000)"
	@echo "make test       run the tests (test-long: all, cold, and searching at random)"
	@echo "make lint       ruff and the import rules; make docs writes docs/settings.md, metrics.md and tags.md"
	@echo "make lock       resolve requirements.in into requirements.lock"

install: $(VENV)/.done
$(VENV)/.done: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "make: $(PYTHON) is Python " + sys.version.split()[0] + "; needs 3.11 to 3.13: make $(MAKECMDGOALS) PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

repro: install
	@LC_ALL=C git rev-parse --git-dir 2>&1 | grep -q "not a git repository" && git init --quiet || true
	genfoundry bootstrap
	genfoundry check
	dvc repro
	genfoundry record

ui: install
	genfoundry ui

test: install
	python -m pytest --durations 25 --durations-min 3

test-long: install
	HYPOTHESIS_PROFILE=search GENFOUNDRY_TESTS_PYTHON=$(VENV)/bin/python python -m pytest -m ''

docs: install
	python docs/generate.py

lint: install
	ruff check .
	ruff format --check .
	lint-imports

# NVIDIA's packages come with torch's own exact pins on Linux and are absent elsewhere: they stay out of the lock.
NVIDIA := nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile \
  nvidia-curand nvidia-cusolver nvidia-cusparse nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 \
  nvidia-nvtx triton cuda-toolkit cuda-bindings cuda-pathfinder
lock:
	uv pip compile --universal --python-version 3.11 requirements.in -o requirements.lock --no-annotate --no-header \
	  $(addprefix --no-emit-package ,$(NVIDIA))

clean:
	rm -rf artifacts checkpoints cache reports/*/*/*.html .pytest_cache .ruff_cache .hypothesis
