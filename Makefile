PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-avx2 test-slow test-bare test-lowest coverage lint docs bench clean

demo: .venv/.ready
	$(BIN)/robustprune demo --out demo

# A process for each core, each with one thread: two that use two threads each would wait for one another. A file's
# tests stay together, as they share what they train.
PYTEST := pytest -n auto --dist loadfile
test test-avx2 test-slow test-bare test-lowest coverage: export OMP_NUM_THREADS = 1
test test-avx2 test-slow test-bare test-lowest coverage: export MKL_NUM_THREADS = 1

test: .venv/.ready
	$(BIN)/python -m $(PYTEST) -m "not slow"

# Processors without AVX-512 take other kernels of oneDNN's: what trains, scores or attacks has to hold with these, too.
test-avx2: export ONEDNN_MAX_CPU_ISA = AVX2
test-avx2: .venv/.ready
	$(BIN)/python -m $(PYTEST) -m "not slow" tests/attacks tests/evaluation tests/inference tests/lottery tests/models \
		tests/ood tests/pruning tests/records tests/runtime/test_kernels.py tests/tickets tests/training

# What takes longest lies in tests/ itself and goes first: it would otherwise be left to one core at the end.
test-slow: .venv/.ready
	$(BIN)/python -m $(PYTEST) --no-loadscope-reorder --durations=60 -m slow tests/test_*.py tests/*/

# The wheel where nothing is installed but what it brings, and tests that need no more; then the extras that hold nothing
# back, at their newest. Torch comes out of .venv, in links; with a PYTHON that .venv does not have, out of the index.
test-bare: ROOM := build/bare
test-bare: .venv/.ready
	$(PYTHON) -m venv --clear $(ROOM)
	$(BIN)/python tests/link_torch.py $(ROOM)
	$(call test_wheel,constraints-bare.txt)
	$(ROOM)/bin/pip install --no-compile -c constraints-bare.txt --find-links build/wheel 'robustprune[timm,mlflow]'
	$(ROOM)/bin/pip check
	PYTHONSAFEPATH=1 $(ROOM)/bin/$(PYTEST) -m "not slow" tests/models/test_timm.py tests/sweep/test_mlflow.py

# The same with the lowest release of everything that the wheel asks for: some 3 GB from the index. Old releases use what
# newer ones of others call deprecated.
test-lowest: ROOM := build/lowest
test-lowest: PYTEST += -W ignore::DeprecationWarning
test-lowest: .venv/.ready
	$(PYTHON) -m venv --clear $(ROOM)
	$(call test_wheel,constraints-lowest.txt)

# PYTHONSAFEPATH keeps the checkout from being imported instead of what is installed.
# Every module and plug-in, commands one after the other, a query; the demo before them trains, detects and compares.
BARE_TESTS := tests/test_extras.py tests/test_registry.py tests/sweep/test_query.py tests/cli/test_cli.py::test_the_whole_path
define test_wheel
	rm -rf build/wheel
	$(BIN)/python -m build --no-isolation --wheel --outdir build/wheel .
	$(ROOM)/bin/pip install --no-compile -c $(1) build/wheel/*.whl
	$(ROOM)/bin/pip check
	$(ROOM)/bin/robustprune demo --epochs 1 --out $(ROOM)/demo
	$(ROOM)/bin/pip install --no-compile -c $(1) pytest pytest-xdist hypothesis
	PYTHONSAFEPATH=1 ROBUSTPRUNE_EXTRAS=absent $(ROOM)/bin/$(PYTEST) -m "not slow" $(BARE_TESTS)
endef

# Lines and branches that the quick tests reach, commands and workers that they start included.
coverage: .venv/.ready
	$(BIN)/coverage erase
	$(BIN)/coverage run -m $(PYTEST) -m "not slow"
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, in site/; a broken link is an error.
docs: .venv/.ready
	PYTHONPATH=docs $(BIN)/zensical build --clean --strict

bench: .venv/.ready
	for benchmark in benchmarks/*.py; do $(BIN)/python $$benchmark || exit 1; done

clean:
	rm -rf .venv demo dist build site .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Installs once; again only when what is to be installed changes.
.venv/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
