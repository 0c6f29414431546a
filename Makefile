# Everything on a fresh machine that has Python 3.11 or newer and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test test-all lint bench clean

demo: $(READY)
	$(BIN)/elboroom study demo

# The second call runs without the shape-checking hook, whose wrappers break the graphs of torch.compile.
test: $(READY) lint
	$(BIN)/python -m pytest -q --jaxtyping-packages=elboroom,shape_checks.checked -n 2
	$(BIN)/python -m pytest -q -m "compiled and not slow"

test-all: test
	$(BIN)/python -m pytest -q -m slow

lint: $(READY)
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks

bench: $(READY)
	$(BIN)/python benchmarks/run.py

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
