# The two commands of the quick start are `make demo` and `make test`; everything else is a step of them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DEMO   ?= examples/sample.mp4

.PHONY: demo test lint types sample man wheel clean

demo: $(VENV)/.installed
	@mkdir -p build
	$(BIN)/rcan-video "$(DEMO)" build/demo_x2.mp4 --scale 2 --overwrite
	$(BIN)/python examples/demo_picture.py "$(DEMO)" build/demo_x2.mp4 build/demo.png
	@echo
	@echo "Upscaled video:            build/demo_x2.mp4"
	@echo "Bicubic beside RCAN (PNG): build/demo.png"

# Two at a time, each with one thread: threads of two processes that compute at once spin against each other.
test: $(VENV)/.installed lint types build/spandrel/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

sample: $(VENV)/.installed
	$(BIN)/python examples/make_sample.py examples/sample.mp4

man: $(VENV)/.installed
	$(BIN)/python docs/make_man.py

wheel: $(VENV)/.installed
	$(BIN)/python -m build --outdir build/dist

# Another program's reader of RCAN checkpoints, for tests/test_spandrel.py, which is skipped where it cannot be had. Apart from
# the environment, as it is no dependency, and without its own: torch is there, and torchvision is only for other architectures.
build/spandrel/.installed: Makefile | $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target build/spandrel spandrel==0.4.2 einops==0.8.2 \
	    && touch $@ || echo "spandrel could not be had: the test against its reader is skipped"

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "rcan-video needs Python 3.11 or newer: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf build dist $(VENV)
