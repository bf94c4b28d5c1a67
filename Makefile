# Clickmill. `make help` lists what there is. Needs Python 3.11 and make; everything else is fetched into .venv and .cache.

SHELL := /bin/bash -o pipefail
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
CACHE := .cache
UV := $(shell command -v uv 2>/dev/null || echo $(CACHE)/uv/bin/uv)
BIN := .venv/bin
READY := .venv/.ready
OUT ?= out

# TensorFlow's start-up notes say nothing a user can act on.
export TF_CPP_MIN_LOG_LEVEL ?= 2
export UV_LINK_MODE ?= copy

.PHONY: help setup demo demo-incident test test-integration test-large test-cluster cluster-up cluster-down lint format gen lock images bench bench-drift bench-experiment bench-serve bench-train clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

setup: $(READY)  ## create .venv with the locked versions

demo: $(READY)  ## the whole job on this machine: world, pipeline, endpoint, traffic, report (about 5 minutes)
	$(BIN)/clickmill demo --out $(OUT)/demo $(DEMO_ARGS)

demo-incident: $(READY)  ## a bundle that bids three times too high gets all traffic: found by its clicks, taken back by an alert, or without Prometheus by the release machine itself (about 2 minutes)
	$(BIN)/clickmill drill uncalibrated-bundle --out $(OUT)/drills $(DRILL_ARGS)

test: $(READY)  ## all tests but those of running processes
	$(BIN)/python -m pytest -m "not large and not integration and not cluster" -n auto --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

test-integration: $(READY)  ## real processes on loopback, one test at a time: loads, faults, releases, alerts (about 12 minutes)
	$(BIN)/python -m pytest -m "integration and not large and not cluster" $(PYTEST_ARGS)

test-large: $(READY)  ## what needs more than a minute or more than 2 GiB
	$(BIN)/python -m pytest -m "large and not cluster" $(PYTEST_ARGS)

test-cluster: $(READY)  ## on a real Kubernetes with a real KServe, brought up here without Docker (root; the first time builds for 20 minutes)
	$(BIN)/python -m pytest -m cluster tests/cluster $(PYTEST_ARGS)

cluster-up: $(READY)  ## start that Kubernetes and leave it running: node, KServe, autoscaling, the project's image
	$(BIN)/python -m tests.cluster.bringup up

cluster-down: $(READY)  ## stop it and remove all but its cache
	$(BIN)/python -m tests.cluster.bringup down

lint: $(READY)  ## ruff, mypy and the arrows between rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)  ## rewrite the code in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

gen: $(READY)  ## write again what is generated: compiled pipelines, JSON Schema of the contract, dashboards, CRD, copies in the chart, kustomize base
	$(BIN)/python -m pipelines.compile
	$(BIN)/clickmill contract schema > contracts/contract.schema.json
	$(BIN)/python -m monitoring.dashboards.write
	$(BIN)/python -m monitoring.operator.crd
	$(BIN)/python helm/generate.py

# What an image installs: a part of requirements.lock, at its versions.
IMAGE_LOCK = $(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate -q -c requirements.lock

lock: $(UV)  ## resolve requirements.lock again after a change of pyproject.toml
	$(UV) pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header -q -o requirements.lock
	$(IMAGE_LOCK) pyproject.toml --extra serving -o serving/images/serving.lock
	$(IMAGE_LOCK) pyproject.toml --extra pipelines --extra sweep --extra monitoring -o serving/images/steps.lock
	$(IMAGE_LOCK) pyproject.toml --extra monitoring -o serving/images/monitoring.lock
	echo hatchling | $(IMAGE_LOCK) - -o serving/images/build.lock

images:  ## container images by buildah; BASE=debootstrap where no registry is reached (docs/serving.md)
	serving/images/build.sh

bench: $(READY)  ## performance beside a peer or a roofline: preprocess, training, endpoint, feature store
	$(BIN)/python tests/bench/world.py
	$(BIN)/python tests/bench/preprocess.py
	$(BIN)/python tests/bench/train.py --sides clickmill,tensorflow-tower --no-epoch
	$(BIN)/python tests/bench/serve.py --quick
	$(BIN)/python tests/bench/features.py --ids 100000 --reads 500

bench-serve: $(READY)  ## the endpoint beside stock KServe and the bare call, goals with what was got (six minutes)
	$(BIN)/python tests/bench/serve.py $(ARGS)
	$(BIN)/python tests/bench/serve_capacity.py

bench-train: $(READY)  ## training speed beside DeepCTR, FuxiCTR and the roofline (makes their environments: a few GB; half an hour)
	$(BIN)/python tests/bench/train.py $(ARGS)

bench-drift: $(READY)  ## drift beside plain Evidently, and ten million rows in bounded memory (2 GB of disk)
	$(BIN)/python tests/bench/drift.py $(ARGS)

bench-experiment: $(READY)  ## 100 million impressions to per-user sums by DuckDB, false alarms under continuous looking, shared budgets
	$(BIN)/python tests/bench/experiment.py sums
	$(BIN)/python tests/bench/experiment.py looks
	$(BIN)/python tests/bench/experiment.py interference

clean:  ## remove what the targets above made, but for the caches
	rm -rf $(OUT) .venv build dist

$(CACHE)/uv/bin/uv:
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target $(CACHE)/uv uv

$(READY): requirements.lock pyproject.toml | $(UV)
	test -x $(BIN)/python || $(UV) venv --quiet --python 3.11 .venv
	$(UV) pip sync --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@
