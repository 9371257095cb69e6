# Each target does all of its set-up: a fresh clone needs nothing else.
# PYTHON names the interpreter that makes the environment, 3.11 or later.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
OLDEST := .venv-oldest/bin
# Tested with the oldest and the newest versions: what goes through torch, transformers, pytest,
# DuckDB or fsspec. Left out: records and texts, and launches of fresh processes of two commits.
LAUNCHING := %_confirmation.py %_confirmed.py %_gate_new.py %_gate_outputs.py %/test_ab.py
VERSIONED_TESTS := tests/zoo tests/models tests/session tests/measure tests/inspection \
	tests/history tests/stats tests/test_cli.py tests/test_options.py \
	tests/test_versions.py \
	$(filter-out $(LAUNCHING),$(wildcard tests/gate/test_*.py tests/test_plugin_*.py))
OLDEST_READY := .venv-oldest/.ready
NEWEST := .venv-newest/bin
# Parts of the tests move to the worker that has none left.
WORKERS := -n 2 --dist worksteal

.PHONY: test test-all test-pinned test-evidence test-oldest test-newest bench check docs evidence clean

# What one waits for: without the tests that tests/conftest.py marks as slow.
test: check
	@echo "== tests, without slow ones"
	$(BIN)/python -m pytest $(WORKERS) -m "not slow" --ignore tests/evidence tests

# Everything that CI runs before a change is merged.
test-all: test-pinned test-evidence test-oldest

test-pinned: check
	@echo "== all tests, with coverage"
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(WORKERS) --durations=20 --ignore tests/evidence tests
	@echo "== coverage: fails under the share set in pyproject.toml"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# The scripts of `make evidence`, and the figures that they wrote.
test-evidence: $(READY)
	@echo "== tests of the evidence"
	$(BIN)/python -m pytest $(WORKERS) tests/evidence

# The oldest versions of torch, transformers and pytest, in an environment of their own. pytest 8
# does not read [tool.pytest], so it is told by a file. Left out: what inductor compiles, because
# the C++ that torch 2.6 writes of that model does not compile; what transformers 4.57 logs of
# kosmos-2.5 itself, and that udop, built for the newest, says more than two words.
test-oldest: $(OLDEST_READY)
	@echo "== tests, with the oldest versions"
	$(OLDEST)/python -m pytest -c pytest-8.ini --rootdir=. $(WORKERS) --durations=10 $(VERSIONED_TESTS) \
		--deselect tests/measure/test_compilation.py::test_what_inductor_compiles_is_measured \
		--deselect "tests/zoo/test_zoo.py::test_nothing_is_logged_or_warned_of[kosmos-2.5]" \
		--deselect "tests/zoo/test_zoo.py::test_eight_words_are_generated_and_not_all_the_same[udop]"

# The newest versions that PyPI has today, in an environment of their own, brought up to date each
# time.
test-newest: $(NEWEST)/python
	@echo "== environment: .venv-newest with the newest versions (minutes, and 5.5 GB, at first)"
	$(NEWEST)/python -m pip install --no-cache-dir --quiet --upgrade --upgrade-strategy eager \
		--editable '.[test]'
	@echo "== tests, with the newest versions"
	@$(NEWEST)/python -m pip list | grep -E '^(torch|transformers|pytest) '
	$(NEWEST)/python -m pytest $(WORKERS) --durations=10 $(VERSIONED_TESTS)

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

# The pages as a site; a link that leads nowhere fails.
docs: $(READY)
	@echo "== docs: site/"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

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
	rm -rf .venv .venv-oldest .venv-newest site .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find pytest_vlmlatency tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# Written last, so that an interrupted installation starts over.
$(READY): pyproject.toml constraints.txt
	@echo "== environment: .venv with the versions in constraints.txt (minutes, once)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(NEWEST)/python:
	$(PYTHON) -m venv .venv-newest

$(OLDEST_READY): pyproject.toml constraints-oldest.txt
	@echo "== environment: .venv-oldest with the versions in constraints-oldest.txt (minutes, once)"
	$(PYTHON) -m venv .venv-oldest
	$(OLDEST)/python -m pip install --no-cache-dir --quiet \
		--constraint constraints-oldest.txt --editable '.[test]'
	@touch $@
