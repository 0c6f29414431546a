# Everything on a fresh machine that has Python 3.11 or newer and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test test-all lint docs bench clean

demo: $(READY)
	$(BIN)/elboroom study demo

# The second call runs without the shape-checking hook, whose wrappers break the graphs of torch.compile.
test: $(READY) lint
	$(BIN)/python -m pytest -q --jaxtyping-packages=elboroom,shape_checks.checked -n 2
	$(BIN)/python -m pytest -q -m "compiled and not slow"

test-all: test
	$(BIN)/python -m pytest -q -m slow

lint: $(READY)
	$(BIN)/ruff check src tests benchmarks docs/conf.py
	$(BIN)/ruff format --check src tests benchmarks docs/conf.py

# Into site/, from the docstrings and docs/; nothing is loaded from elsewhere, and a warning is an error.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going -q -E -d $(VENV)/.doctrees -b html docs site
	@echo "site/index.html"

bench: $(READY)
	$(BIN)/python benchmarks/run.py

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $(READY)

$(VENV)/.docs: $(READY)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[docs]'
	touch $(VENV)/.docs

clean:
	rm -rf $(VENV) site .pytest_cache .ruff_cache
