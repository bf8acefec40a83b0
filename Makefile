# Every target sets up what it needs, in .venv, from Python 3.11 or later, make and the package index.
.DEFAULT_GOAL := help
SHELL := /bin/sh

VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.8
# The first Python on the path that is new enough; `make PYTHON=/path/to/python3.12 test` chooses another one.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.14; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)
INSTALL = $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint requirements.lock
DEMO := demo-output

.PHONY: help demo demo-embryo demo-features demo-sam demo-yolo test test-slow check fix bench lock clean

help:
	@echo 'make demo       the main jobs on real photographs, in demo-output/ (installs the core only)'
	@echo 'make demo-features  SAM2 features of the photographs, by random weights (installs everything, about 6 GB)'
	@echo 'make demo-embryo  the embryo dataset in miniature: extract, check, split, image folder, load_dataset'
	@echo 'make demo-sam   a tiny SAM with random weights: verify, split, train, evaluate, predict'
	@echo 'make demo-yolo  a detector of image and mask: convert, verify, train, validate, predict, export (minutes)'
	@echo 'make test       all tests but those marked slow or gpu (installs everything, about 6 GB)'
	@echo 'make test-slow  the tests marked slow and gpu'
	@echo 'make check      formatting, lint, types, README drift'
	@echo 'make bench      speed and memory as ratios against the documented algorithms'
	@echo 'make fix        format and mend what the linter can mend; update the README table'
	@echo 'make lock       pin the newest versions that work together in requirements.lock'

$(BIN)/uv:
	@test -n "$(PYTHON)" || { echo 'error: no Python 3.11 or later found; give it with: make PYTHON=/path/to/python3'; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo 'error: python -m venv failed; on Debian: apt-get install python3-venv'; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

# A stamp says which extras are installed; what changes the requirements makes it stale.
$(VENV)/.installed-demo: $(BIN)/uv pyproject.toml requirements.lock
	$(INSTALL) --editable '.[demo]'
	@touch $@

$(VENV)/.installed-all: $(BIN)/uv pyproject.toml requirements.lock
	$(INSTALL) --editable '.[all,dev]'
	@touch $@ $(VENV)/.installed-demo

demo: $(VENV)/.installed-demo
	rm -rf $(DEMO)
	$(BIN)/python -m toolkit.dataset.demo $(DEMO)
	$(BIN)/mvtk dataset convert-mask-attention --config configs/demo.yaml --report $(DEMO)/convert.json
	$(BIN)/mvtk dataset verify $(DEMO)/mask_attention_yolo --report $(DEMO)/verify.json
	$(BIN)/mvtk dataset preview $(DEMO)/mask_attention_yolo --output $(DEMO)/sheet.png
	$(BIN)/python -m toolkit.edges.demo $(DEMO)/sa1b
	$(BIN)/mvtk edges update --config configs/edges.yaml --report $(DEMO)/edges.json
	$(BIN)/mvtk edges verify --npz-dir $(DEMO)/sa1b/extracted --json-dir $(DEMO)/sa1b
	$(BIN)/mvtk edges preview $(DEMO)/sa1b/sa_3.json $(DEMO)/sa1b/sa_4.json --output $(DEMO)/edges.png
	$(BIN)/python -m toolkit.metadata.demo $(DEMO)/metadata
	$(BIN)/mvtk dataset process --config configs/dataset-process.yaml --report $(DEMO)/process.json
	$(BIN)/mvtk dataset preview $(DEMO)/metadata/preprocessed/train_detector.npy --output $(DEMO)/boxes.png
	$(BIN)/mvtk dataset stats $(DEMO)/metadata/preprocessed/train_detector.npy --output $(DEMO)/boxes-stats.png --json > $(DEMO)/boxes-stats.json
	@echo 'look at $(DEMO)/sheet.png, $(DEMO)/edges.png, $(DEMO)/boxes.png and $(DEMO)/boxes-stats.png'

demo-features: $(VENV)/.installed-all demo
	$(BIN)/mvtk features extract --images $(DEMO)/sa1b --output $(DEMO)/features --weights random:0 --model sam2.1_hiera_tiny
	$(BIN)/mvtk features verify $(DEMO)/features
	$(BIN)/mvtk features preview $(DEMO)/features/*.npz --images $(DEMO)/sa1b --output $(DEMO)/features.png
	@echo 'look at $(DEMO)/features.png (of random weights: no checkpoint is downloaded)'

demo-embryo: $(VENV)/.installed-all
	rm -rf $(DEMO)/embryo
	$(BIN)/python -m toolkit.embryo.demo $(DEMO)/embryo
	$(BIN)/mvtk embryo extract $(DEMO)/embryo/archives $(DEMO)/embryo/extracted
	$(BIN)/mvtk embryo inspect $(DEMO)/embryo/extracted --report $(DEMO)/embryo/inspect.json
	$(BIN)/mvtk embryo verify $(DEMO)/embryo/extracted --decode
	$(BIN)/mvtk embryo split $(DEMO)/embryo/extracted $(DEMO)/embryo/split.json --weights 0.5,0.25,0.25
	$(BIN)/mvtk embryo image-folder $(DEMO)/embryo/extracted --split-file $(DEMO)/embryo/split.json --set train \
		--median-only --output $(DEMO)/embryo/image-folder
	HF_HUB_OFFLINE=1 $(BIN)/python -c 'import datasets; print(datasets.load_dataset("imagefolder", data_dir="$(DEMO)/embryo/image-folder", cache_dir="$(DEMO)/embryo/cache"))'
	$(BIN)/mvtk embryo preview $(DEMO)/embryo/extracted --video DEMO1-1 --output $(DEMO)/embryo/strip.png
	@echo 'look at $(DEMO)/embryo/strip.png'

demo-sam: $(VENV)/.installed-all
	rm -rf $(DEMO)/sam $(DEMO)/sam-tiny $(DEMO)/sam-run $(DEMO)/sam-evaluation $(DEMO)/sam-predictions
	$(BIN)/python -m toolkit.sam.demo $(DEMO)/sam
	$(BIN)/python -m toolkit.sam.demo_model $(DEMO)/sam-tiny
	$(BIN)/mvtk sam split $(DEMO)/sam --test-size 0.25
	$(BIN)/mvtk sam verify $(DEMO)/sam
	$(BIN)/mvtk sam preview $(DEMO)/sam --output $(DEMO)/sam.png --overwrite
	$(BIN)/mvtk sam train --config configs/sam-train.yaml $(DEMO)/sam
	$(BIN)/mvtk sam evaluate $(DEMO)/sam --model $(DEMO)/sam-run --output $(DEMO)/sam-evaluation
	$(BIN)/mvtk sam predict $(DEMO)/sam/images --boxes $(DEMO)/sam/boxes --model $(DEMO)/sam-run --output $(DEMO)/sam-predictions
	@echo 'look at $(DEMO)/sam.png, $(DEMO)/sam-run/panels, $(DEMO)/sam-evaluation and $(DEMO)/sam-predictions/overlays'

demo-yolo: $(VENV)/.installed-all
	rm -rf $(DEMO)/marked $(DEMO)/yolo
	$(BIN)/python -m toolkit.yolo.demo $(DEMO)/marked
	MVTK=$(BIN)/mvtk sh configs/yolo-mask-attention.sh configs/yolo-convert.yaml $(DEMO)/yolo --config configs/yolo-train.yaml
	@echo 'look at $(DEMO)/yolo/run/results.png, $(DEMO)/yolo/val and $(DEMO)/yolo/predictions/overlays'

test: $(VENV)/.installed-all
	$(BIN)/python -m pytest -n 2

test-slow: $(VENV)/.installed-all
	$(BIN)/python -m pytest -m 'slow or gpu'

check: $(VENV)/.installed-all
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m commands.reference --check README.md

fix: $(VENV)/.installed-all
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python -m commands.reference --write README.md

bench: $(VENV)/.installed-all
	$(BIN)/python -m tests.benchmarks

lock: $(BIN)/uv
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --fork-strategy fewest \
		--all-extras --no-annotate --no-header --output-file requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) $(DEMO) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
