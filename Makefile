# What a person runs, and what continuous integration runs: the same commands.
#   make demo     run the example, and look at its result
#   make test     every check: lint, format, types, directions of import, tests
#   make test-v2  the tests that need control groups v2, in an emulated machine (Debian; about 3 minutes)
#   make fuzz     give every reader of files from outside odd files, ten minutes each (FUZZ_SECONDS)
#   make bench    list the benchmarks and how to run them
# PYTHON is the interpreter the environment is made with (3.11 or later).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The memory that the demonstration may use.
BUDGET ?= 512MiB
# How long each reader is fed by `make fuzz`, in seconds.
FUZZ_SECONDS ?= 600

.PHONY: demo test check tests test-v2 fuzz bench clean

demo: $(STAMP)
	$(BIN)/penstock run codons examples/organelles.fa.gz --into runs/demo \
		--genetic-code 11 --frame all --strand both --budget $(BUDGET)
	@$(BIN)/python examples/show.py runs/demo

test: check tests

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Each part in a process of its own, two parts at a time.
tests: $(STAMP)
	@$(BIN)/python tests/run_parts.py

test-v2: $(STAMP)
	PYTHON=$(abspath $(BIN)/python) tests/v2/run.sh

# atheris is installed where there is one for this Python; without it the files are those of the tests, for longer.
fuzz: $(STAMP)
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install --quiet atheris || \
		uv pip install --quiet --python $(BIN)/python atheris || echo "no atheris for this Python"
	@set -e; for target in $$(cd tests/fuzz && $(abspath $(BIN)/python) -c 'import targets; print(*targets.TARGETS)'); do \
		echo "== $$target"; $(BIN)/python tests/fuzz/run.py $$target $(FUZZ_SECONDS); \
	done

bench:
	@for script in $(sort $(wildcard benchmarks/*/run.py benchmarks/*/overhead.py)); do \
		printf '%-40s %s\n' "$(BIN)/python $$script" "$$(sed -n '1s/^"""//p' $$script | sed 's/"""$$//')"; \
	done

clean:
	rm -rf $(VENV) .cache runs build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

# The environment: exactly the locked versions, and this folder, editable. uv when there is one, else pip.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Penstock needs Python 3.11 or later; choose one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@if command -v uv >/dev/null 2>&1; then \
		set -ex; \
		uv venv --quiet --allow-existing --python "$$(command -v $(PYTHON))" $(VENV); \
		VIRTUAL_ENV=$(abspath $(VENV)) uv pip sync --quiet --require-hashes requirements.lock; \
		VIRTUAL_ENV=$(abspath $(VENV)) uv pip install --quiet --no-deps --no-build-isolation --editable .; \
	else \
		$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
			{ echo "this Python cannot make environments: apt-get install python3-venv" >&2; exit 1; }; \
		set -ex; \
		$(PYTHON) -m venv $(VENV); \
		$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock; \
		$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .; \
	fi
	@touch $@
