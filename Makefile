# make demo · make test · make test-slow · make test-real · make lint · make clean
# PYTHON selects the interpreter that .venv is made from: make PYTHON=python3.12 demo
# JOBS is how many processes share the tests, a file to each at a time; 0: in pytest's own process

PYTHON ?= python3
PYTEST_ARGS ?=
JOBS ?= 2
BIN := .venv/bin

.PHONY: help demo test test-slow test-real lint clean

help:
	@echo "make demo       install, fine-tune the embedded default, evaluate it"
	@echo "make test       install with the test extra, run the tests (at most 10 minutes on 2 cores)"
	@echo "make test-slow  the tests that take long"
	@echo "make test-real  the tests on PadChest's real label file and on real images"
	@echo "make lint       ruff and mypy"
	@echo "make clean      remove .venv and caches; runs in outputs/ stay"
	@echo "JOBS=$(JOBS) processes share the tests; PYTHON=$(PYTHON) makes .venv; PYTEST_ARGS reaches pytest: make test PYTEST_ARGS='-k report -x'"

demo: .venv/installed
	run=outputs/demo-$$(date +%Y%m%d-%H%M%S) && \
	$(BIN)/python train.py hydra.run.dir=$$run && \
	$(BIN)/python evaluate.py run=$$run && \
	echo "The run lies in $$run"

test: .venv/installed-test
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not slow and not real_data" $(PYTEST_ARGS)

# pytest's exit code 5 says that a group holds no test.
test-slow: .venv/installed-test
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "slow and not real_data" $(PYTEST_ARGS) || [ $$? -eq 5 ]

# The label file comes from the network (29 MB) or from XRAYEXP_PADCHEST_LABELS=FOLDER, images from
# XRAYEXP_REAL_IMAGES=FOLDER. What cannot be had is skipped, and said.
test-real: .venv/installed-test
	$(BIN)/python -m pytest -m real_data tests/real_data $(PYTEST_ARGS)

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps keep the installs from being repeated until the requirements change.
.venv/installed: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -c constraints.txt -e .
	touch $@

.venv/installed-test: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -c constraints.txt -e ".[test]"
	touch $@ .venv/installed

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 12) or sys.exit("error: Python 3.11 or 3.12 is needed and $(PYTHON) is %d.%d; try: make PYTHON=python3.12 ..." % v)'
	$(PYTHON) -m venv .venv
