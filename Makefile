# `make demo` trains, evaluates, fuses and predicts on drawn streets; `make test` runs the tests. Both set up VENV first.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
SETUP := $(VENV)/.repvgg_seg

.PHONY: demo test lint setup

demo: setup
	$(BIN)/python tools/demo.py

test: setup lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

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
