# Needs python3 (3.11 or later) and make, nothing else; everything it installs lies in .venv, .venv-embeddings and .uv.
# make run ARGS="--exit --json": set-up chatter goes to stderr, so stdout is the command's own.
PYTHON ?= python3
ARGS ?=
# processes that share the tests: the whole suite, which mostly waits, four; tests that ARGS names run in one
JOBS ?= $(if $(findstring tests/,$(ARGS)),0,4)
# tests that run a second time with compiled loops as plain Python
INTERPRETED = tests/unit/state tests/unit/streams/processing tests/unit/streams/schemas/scan
UV_VERSION = uv>=0.8,<1
VENV = .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
# with torch: three gigabytes to fetch, six on disk; its CUDA libraries come along whether or not there is a GPU
EMBEDDINGS = .venv-embeddings

.PHONY: run test test-embeddings docs lint format verify faults exits bench bench-peers quality profile clean
.DEFAULT_GOAL := run
MAKEFLAGS += --no-print-directory

run: $(STAMP)
	@$(BIN)/shoal demo $(ARGS)

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --quiet --check . || { echo 'not formatted: make format' >&2; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(STAMP)
	@$(BIN)/ruff format .

test: lint
	@$(BIN)/python -m streams.compiling
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadscope $(ARGS)
	@$(if $(ARGS),,NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest -n $(JOBS) $(INTERPRETED))
	@echo 'tests/embeddings were not among them: they need torch, make test-embeddings runs them' >&2

test-embeddings: $(EMBEDDINGS)/.installed
	@OMP_WAIT_POLICY=PASSIVE $(EMBEDDINGS)/bin/python -m pytest tests/embeddings $(ARGS)

# into site/; make docs ARGS=serve shows it while you write
docs: $(STAMP)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs $(or $(ARGS),build --quiet) --strict

verify: $(STAMP)
	@test -n "$(DATA)" || { echo 'make verify DATA=FILE: a file in the schema of shoal, CSV or JSON lines, plain or .gz' >&2; exit 2; }
	@SHOAL_VERIFY_DATA="$(abspath $(DATA))" $(BIN)/python -m pytest tests/integration/test_verify.py $(ARGS)

faults: $(STAMP)
	@$(BIN)/python -m tests.faults --seeds $(or $(SEEDS),1) $(if $(ONLY),--only $(ONLY)) $(if $(FRESH),--fresh) $(if $(RESULTS),--results $(RESULTS))

exits: $(STAMP)
	@test -n "$(DATA)" || { echo 'make exits DATA=FILE: a file in the schema of shoal, CSV or JSON lines, plain or .gz' >&2; exit 2; }
	@$(BIN)/python -m tests.faults.exits_file "$(DATA)" $(ARGS)

bench-peers: $(STAMP) .uv/bin/uv
	@$(BIN)/python -m tests.bench.peers $(ARGS)

bench: $(STAMP)
	@$(BIN)/python -m tests.bench $(ARGS)

quality: $(STAMP)
	@$(BIN)/python -m tests.quality --seeds $(or $(SEEDS),6) $(ARGS)

profile: $(STAMP)
	@$(BIN)/python -m tests.bench.profile $(ARGS)

# uv lives in an environment of its own: the sync below takes away what the lock does not name
.uv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  is=$$($(PYTHON) --version 2>/dev/null) || is='not to be found'; \
	  echo "shoal needs Python 3.11 or later; $(PYTHON) is $$is." >&2; \
	  echo "Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "setting up: uv" >&2
	@$(PYTHON) -m venv .uv >&2
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check "$(UV_VERSION)" >&2 || { rm -rf .uv; exit 1; }

$(STAMP): requirements.lock
$(EMBEDDINGS)/.installed: requirements-embeddings.lock
$(STAMP) $(EMBEDDINGS)/.installed: pyproject.toml | .uv/bin/uv
	@echo "setting up: the locked environment in $(@D)" >&2
	@test -x $(@D)/bin/python || $(PYTHON) -m venv --without-pip $(@D) >&2
	@VIRTUAL_ENV=$(@D) .uv/bin/uv pip sync --quiet --require-hashes $(filter %.lock,$^) >&2
	@VIRTUAL_ENV=$(@D) .uv/bin/uv pip install --quiet --no-deps -e . >&2
	@echo "setting up: compiling the loops over events, once for each version" >&2
	@$(@D)/bin/python -m streams.compiling >&2
	@touch $@

clean:
	@rm -rf $(VENV) $(EMBEDDINGS) .uv .peers .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist site
	@find streams online_models state monitoring tests -name __pycache__ -prune -exec rm -rf {} +
