# `make demo` trains, evaluates, fuses and predicts on drawn streets. `make test` runs the tests, except those that start processes, kill them or
# walk through whole commands: `make test-whole` runs these. All three set up VENV first.
# `make test-versions` runs the tests that concern versions, with whatever is installed for PYTHON, to which it adds nothing.
# `make test-openmmlab` runs those that concern the original OpenMMLab packages with these, in OPENMMLAB (mmcv is compiled).
VENV ?= .venv
OPENMMLAB ?= .venv-openmmlab
PYTHON ?= python3
BIN := $(VENV)/bin
SETUP := $(VENV)/.repvgg_seg

CONCERNS_OPENMMLAB := tests/models tests/datasets tests/engine tests/deploy/test_fusing.py tests/deploy/test_undilation.py \
	tests/test_use_in_your_project.py \
	$(addprefix tests/commands/test_,classify.py deploy_variants.py new_style_config.py stock_tools.py test_deploy_predict.py \
	train.py train_ablations.py train_faults.py)
CONCERNS_VERSIONS := $(CONCERNS_OPENMMLAB) tests/core tests/runtime tests/test_import.py

# Files in their order: the commands, which take longest, come early, so that neither process waits for the other at the end.
TWO_PROCESSES := -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

.PHONY: demo test test-whole test-versions test-openmmlab lint setup

demo: setup
	$(BIN)/python tools/demo.py

test: setup lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TWO_PROCESSES)

test-whole: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TWO_PROCESSES) -m 'whole and not slow'

test-versions:
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest $(TWO_PROCESSES) -m 'not slow' $(CONCERNS_VERSIONS)

test-openmmlab: $(OPENMMLAB)/.repvgg_seg
	OMP_NUM_THREADS=1 $(OPENMMLAB)/bin/python -m pytest $(TWO_PROCESSES) -m 'not slow' $(CONCERNS_OPENMMLAB)

$(OPENMMLAB)/.repvgg_seg: tests/openmmlab.txt
	$(PYTHON) -m venv $(OPENMMLAB)
	$(OPENMMLAB)/bin/pip install --quiet 'setuptools<81' wheel ninja $$(grep '^torch' tests/openmmlab.txt)
	$(OPENMMLAB)/bin/pip install --quiet --no-build-isolation $$(grep '^mm' tests/openmmlab.txt)
	$(OPENMMLAB)/bin/pip install --quiet --requirement tests/openmmlab.txt pytest pytest-xdist hypothesis timm pycocotools
	$(OPENMMLAB)/bin/pip install --quiet --no-deps --editable .
	touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

# The editable install is per clone: a shared VENV must point at the clone that uses it.
setup: $(SETUP)
	@grep -qsxF '$(CURDIR)' $(SETUP) || { $(BIN)/pip install --quiet --no-deps --editable . && echo '$(CURDIR)' > $(SETUP); }

$(SETUP): requirements.txt setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -r requirements.txt
	$(BIN)/pip install --quiet --editable '.[export,test]'
	echo '$(CURDIR)' > $(SETUP)
