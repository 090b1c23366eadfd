# What a person runs, and what continuous integration runs: the same commands.
#   make demo     run the example, and look at its result
#   make test     every check: lint, format, types, directions of import, tests
#   make test-cluster  the tests that need a real Dask cluster, and a real SLURM (6 to 9 minutes)
#   make test-v2  the tests that need control groups v2, in an emulated machine (Debian; about 6 minutes)
#   make test-systemd  the tests that need systemd and a user who logged in, in such a machine
#   make fuzz     give every reader of files from outside odd files, ten minutes each (FUZZ_SECONDS)
#   make docs     build the documentation as a site, its links checked, in site/
#   make recipes  try and lint what the recipes show, with the tools that they name
#   make release  build wheel and sdist in dist/, and run the demonstration from the wheel in a bare environment
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

# Tools of the documentation, apart from those of the tests.
DOCS_VENV ?= .venv-docs
DOCS_STAMP := $(DOCS_VENV)/.installed

.PHONY: demo test check lint types tests test-cluster test-v2 test-systemd fuzz docs recipes release bench clean

demo: $(STAMP)
	$(BIN)/penstock run codons examples/organelles.fa.gz --into runs/demo \
		--genetic-code 11 --frame all --strand both --budget $(BUDGET)
	@$(BIN)/python examples/show.py runs/demo

# Types are checked beside the tests: they take one core for a while, and nothing else waits for them.
test: lint
	@$(MAKE) --no-print-directory -j2 types tests

check: lint types

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP)
	$(BIN)/mypy

# Each part in a process of its own, some parts at a time. They start thousands of interpreters, which would
# compile all of ours each time where Python is told to write no bytecode.
tests: $(STAMP)
	@$(BIN)/python -m compileall -q src
	@$(BIN)/python tests/run_parts.py

# Both, though the first fails; -rs says what was not run, and what is missing for it.
test-cluster: $(STAMP)
	@failed=; for part in tests/on_dask tests/on_slurm; do \
		$(BIN)/python -m pytest -q -rs $$part || failed="$$failed $$part"; \
	done; test -z "$$failed" || { echo "failed:$$failed" >&2; exit 1; }

test-v2: $(STAMP)
	PYTHON=$(abspath $(BIN)/python) tests/v2/run.sh

test-systemd: $(STAMP)
	PYTHON=$(abspath $(BIN)/python) tests/v2/run.sh --systemd

# atheris is installed where there is one for this Python; without it the files are those of the tests, for longer.
fuzz: $(STAMP)
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install --quiet atheris || \
		uv pip install --quiet --python $(BIN)/python atheris || echo "no atheris for this Python"
	@set -e; for target in $$(cd tests/fuzz && $(abspath $(BIN)/python) -c 'import targets; print(*targets.TARGETS)'); do \
		echo "== $$target"; $(BIN)/python tests/fuzz/run.py $$target $(FUZZ_SECONDS); \
	done

# Not --quiet: then nothing is strict.
docs: $(DOCS_STAMP)
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict
	@echo "the site is in site/; look at it: $(DOCS_VENV)/bin/mkdocs serve"

recipes: $(DOCS_STAMP)
	$(DOCS_VENV)/bin/python -m pytest -c tests/recipes/tools.ini --confcutdir tests/recipes tests/recipes/with_tools.py

release: $(STAMP)
	$(BIN)/python tools/release.py dist

bench:
	@for script in $(sort $(wildcard benchmarks/*/run.py benchmarks/*/overhead.py)); do \
		printf '%-40s %s\n' "$(BIN)/python $$script" "$$(sed -n '1s/^"""//p' $$script | sed 's/"""$$//')"; \
	done

clean:
	rm -rf $(VENV) $(DOCS_VENV) .cache runs build dist site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

# An environment: exactly the locked versions, and this folder, editable. uv when there is one, else pip.
$(STAMP): requirements.lock pyproject.toml
	@$(call environment,$(VENV),requirements.lock)

$(DOCS_STAMP): requirements-docs.lock pyproject.toml
	@$(call environment,$(DOCS_VENV),requirements-docs.lock)

# $(1): the folder of the environment; $(2): what it holds. pip would compile on one core; what a package ships
# that is no Python of this version is passed over, as by pip.
define environment
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "Penstock needs Python 3.11 or later; choose one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }; \
if command -v uv >/dev/null 2>&1; then \
	set -ex; \
	uv venv --quiet --allow-existing --python "$$(command -v $(PYTHON))" $(1); \
	VIRTUAL_ENV=$(abspath $(1)) uv pip sync --quiet --compile-bytecode --require-hashes $(2); \
	VIRTUAL_ENV=$(abspath $(1)) uv pip install --quiet --no-deps --no-build-isolation --editable .; \
else \
	$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
		{ echo "this Python cannot make environments: apt-get install python3-venv" >&2; exit 1; }; \
	set -ex; \
	$(PYTHON) -m venv $(1); \
	$(1)/bin/python -m pip install --quiet --no-compile --require-hashes --requirement $(2); \
	$(1)/bin/python -m compileall -qq -j 0 $(1)/lib || true; \
	$(1)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .; \
fi; \
touch $(1)/.installed
endef
