# `make test` and `make bench` do all their set-up: a fresh clone needs nothing else.
# PYTHON names the interpreter that makes the environment, 3.11 or later.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: test bench check evidence clean

test: check
	@echo "== tests, with coverage"
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest tests
	@echo "== coverage: fails under the share set in pyproject.toml"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

bench: $(READY)
	@echo "== benchmarks"
	$(BIN)/python -m pytest benchmarks/

check: $(READY)
	@echo "== lint"
	$(BIN)/ruff check
	@echo "== format"
	$(BIN)/ruff format --check
	@echo "== types"
	$(BIN)/mypy
	@echo "== who may import whom"
	$(BIN)/lint-imports --no-logo

# All scripts run, whatever becomes of the others; then it fails if one of them did.
evidence: $(READY)
	@failed=; \
	for script in benchmarks/evidence/[!_]*.py; do \
		name=$$(basename "$$script" .py); \
		echo "== evidence: $$name"; \
		$(BIN)/python -m "benchmarks.evidence.$$name" || failed="$$failed $$name"; \
	done; \
	test -z "$$failed" || { echo "== failed evidence:$$failed"; exit 1; }

clean:
	@echo "== removing the environment and what tools left behind"
	rm -rf .venv .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find pytest_vlmlatency tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# Written last, so that an interrupted installation starts over.
$(READY): pyproject.toml constraints.txt
	@echo "== environment: .venv with the versions in constraints.txt (minutes, once)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[dev]'
	@touch $@
