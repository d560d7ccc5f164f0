# make demo and make test need nothing but Python >= 3.11; each creates .venv and installs what it lacks.
#
#   PYTHON    the interpreter the environment is made with            make test PYTHON=python3.12
#   VENV      where the environment lives                             make test VENV=/tmp/hv
#   TORCH     torch packages to install first, instead of the newest  make demo TORCH="torch==2.6.0 torchvision==0.21.0"
#   PIP_ARGS  passed to every pip install; here for a torch without CUDA, which is gigabytes smaller
#             make demo PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
#   DEMO_ARGS, PYTEST_ARGS  passed to hybridvit demo and to pytest    make test PYTEST_ARGS="-m slow -x"

PYTHON ?= python3
VENV ?= .venv
TORCH ?=
PIP_ARGS ?=
DEMO_ARGS ?= --out demo-output
PYTEST_ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip

.PHONY: demo test lint format docs clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed-demo
	$(BIN)/hybridvit demo $(DEMO_ARGS)

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/.installed-docs
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build dist site demo-output .pytest_cache .ruff_cache

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "hybridvit needs Python >= 3.11; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." >&2; \
		echo "Name a newer one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed-%: $(VENV)/.created pyproject.toml
	$(if $(TORCH),$(PIP) install $(PIP_ARGS) $(TORCH))
	$(PIP) install $(PIP_ARGS) --editable '.[$*]'
	@touch $@
