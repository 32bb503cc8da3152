# Each target sets up what it needs in .venv, from nothing but python3 (>= 3.11), pip and make.
PYTHON ?= python3
BIN := .venv/bin
DATA_DIR ?=
PACK ?=
OUT ?= demo
SUITE ?=
AGAIN ?=
PYTEST_DATA := $(if $(DATA_DIR),--data-dir=$(abspath $(DATA_DIR)),)
PYTEST_PACK := $(if $(PACK),--pack=$(abspath $(PACK)),)
PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile -m "not slow and not network and not gpu" $(PYTEST_DATA) $(PYTEST_PACK)
# Of 24,000 modules few are imported; each is compiled when it is, which halves the time of an installation.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile --editable
ARRAYS := tests/kernels tests/matrices tests/nn tests/pretrained
# Without this, running Python from here would make the folder `datasets` an importable package.
export PYTHONSAFEPATH := 1
# The tests start hundreds of processes, each of which would compile the library anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint types layers wheel unit docs suites report bench zeroshot covariates clean

demo: .venv/core
	$(BIN)/tsattn demo --out $(OUT)

# Two of the checks that need one core each at a time; the tests take all cores.
test: .venv/dev
	$(MAKE) --jobs=2 --output-sync lint types layers wheel docs
	$(MAKE) unit

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev
	$(BIN)/mypy

layers: .venv/dev
	$(BIN)/lint-imports

# The wheel and the sdist are built and checked by twine, the wheel is installed beside the checkout, and every module is
# imported.
wheel: .venv/dev
	$(BIN)/python tests/check_wheel.py

# The shapes of arrays are checked at every call where arrays are the subject, and nowhere else: it takes a fifth of the
# time of a forecast.
unit: .venv/dev
	$(PYTEST) $(ARRAYS)
	$(PYTEST) tests --jaxtyping-packages= $(addprefix --ignore=,$(ARRAYS))

docs: .venv/dev
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html

# The suites of other people and our own long tests, whole: a record of each in benchmarks/results/conformance.jsonl.
# SUITE names some of them; AGAIN=1 runs also what is recorded at this commit.
suites: .venv/dev
	$(BIN)/python tests/run_suites.py $(SUITE) $(if $(AGAIN),--again,) $(PYTEST_DATA)

# Renders the tables of README and docs, and the pictures of docs, from benchmarks/results.
report: .venv/dev
	PYTHONPATH=benchmarks $(BIN)/python benchmarks/report.py

bench: .venv/core
	$(BIN)/tsattn benchmark benchmarks/suite/headline.toml --out benchmarks/results $(if $(DATA_DIR),--data-dir $(DATA_DIR),)

.venv/core: pyproject.toml
	$(PYTHON) -m venv .venv
	$(INSTALL) .
	touch $@

# One installation, also where there is no environment yet, and of both kinds: each takes half a minute at least.
.venv/dev: pyproject.toml
	$(PYTHON) -m venv .venv
	$(INSTALL) ".[dev]"
	touch .venv/core $@

# Runs the development tasks of the zero-shot pack (PACK=DIR) that are not on record yet.
zeroshot: .venv/core
	PYTHONPATH=benchmarks $(BIN)/python benchmarks/zero_shot/run.py --pack $(or $(PACK),$(error name it: PACK=DIR))

# Runs the development tasks of the covariates pack (PACK=DIR) that are not on record yet, with columns and without.
covariates: .venv/core
	PYTHONPATH=benchmarks $(BIN)/python benchmarks/covariates/run.py --pack $(or $(PACK),$(error name it: PACK=DIR))
	PYTHONPATH=benchmarks $(BIN)/python benchmarks/covariates/run.py --pack $(PACK) --without-columns

clean:
	rm -rf .venv build dist *.egg-info demo docs/_build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
