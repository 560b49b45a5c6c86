PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-avx2 test-slow coverage lint docs bench clean

demo: .venv/.ready
	$(BIN)/robustprune demo --out demo

# A process for each core, each with one thread: two that use two threads each would wait for one another. A file's
# tests stay together, as they share what they train.
PYTEST := pytest -n auto --dist loadfile
test test-avx2 test-slow coverage: export OMP_NUM_THREADS = 1
test test-avx2 test-slow coverage: export MKL_NUM_THREADS = 1

test: .venv/.ready
	$(BIN)/python -m $(PYTEST) -m "not slow"

# Processors without AVX-512 take other kernels of oneDNN's: what trains, scores or attacks has to hold with these, too.
test-avx2: export ONEDNN_MAX_CPU_ISA = AVX2
test-avx2: .venv/.ready
	$(BIN)/python -m $(PYTEST) -m "not slow" tests/attacks tests/evaluation tests/inference tests/lottery tests/models \
		tests/ood tests/pruning tests/records tests/runtime/test_kernels.py tests/tickets tests/training

# In the order of collection, so that what takes longest can be named first.
test-slow: .venv/.ready
	$(BIN)/python -m $(PYTEST) --no-loadscope-reorder --durations=20 -m slow $(TESTS)

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
	$(BIN)/mkdocs build --strict

bench: .venv/.ready
	for benchmark in benchmarks/*.py; do $(BIN)/python $$benchmark || exit 1; done

clean:
	rm -rf .venv demo dist build site .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Installs once; again only when what is to be installed changes.
.venv/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
