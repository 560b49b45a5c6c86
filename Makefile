PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow lint lists docs bench clean

demo: .venv/.ready
	$(BIN)/robustprune demo --out demo

test: .venv/.ready
	$(BIN)/python -m pytest -m "not slow"

test-slow: .venv/.ready
	$(BIN)/python -m pytest -m slow $(TESTS)

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What `robustprune list` says, written down anew from what is there.
lists: .venv/.ready
	$(BIN)/python -m robustprune.listed

# The site, in site/; a broken link is an error.
docs: .venv/.ready
	$(BIN)/mkdocs build --strict

bench: .venv/.ready
	for benchmark in benchmarks/*.py; do $(BIN)/python $$benchmark || exit 1; done

clean:
	rm -rf .venv demo dist build site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Installs once; again only when what is to be installed changes.
.venv/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
