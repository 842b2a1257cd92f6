# The commands of this checkout; `make` lists them.  Everything they make lies in .venv, build and dist.

PYTHON  ?= python3
ARGS    ?=
BACKEND ?= shm
VENV    := .venv
BIN     := $(VENV)/bin
COMMA   := ,
ENGINE  := $(wildcard mpcache/*.[ch] mpcache/_wire/*.[ch] mpcache/shm/*.[ch] mpcache/shm/core/*.[ch])
PLAYED_LONGER = tests/processes/test_no_drops.py tests/processes/test_kill_storm.py tests/processes/test_mutex_deaths.py \
	tests/mutexes/test_file.py tests/mutexes/test_semaphore.py tests/stress/test_faults.py tests/test_packaging.py
C_CODE   = $(ENGINE) $(wildcard tests/shm/*.[ch] tests/shm/fuzz/*.[ch])
NEAR_C  = $(shell grep -rl mark.engine tests --include='test_*.py')
RECIPE  := setup.py setup.cfg pyproject.toml

.PHONY: help demo test build lint format format-check docs bench stress test-asan fuzz long coverage mutants prove sdist wheel clean

help: ## this list
	@awk -F ' *## ' '/^[a-z-]+:.*##/ { sub(/:.*/, "", $$1); printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.demo-$(BACKEND) ## workers share a region, creators are killed; BACKEND=redis, memcached or dbm; ARGS go to `mpcache demo`
	@$(if $(filter redis memcached,$(BACKEND)),tools/need.sh servers)
	@$(BIN)/mpcache demo --backend $(BACKEND) $(ARGS)

test: build ## all checks and tests; with ARGS, which go to pytest, those tests and no AddressSanitizer
	@tools/need.sh servers
	@tools/need.sh proofs
	@tools/need.sh browser
	@$(MAKE) --no-print-directory lint
	$(if $(strip $(ARGS)),,@$(MAKE) --no-print-directory test-asan ARGS='-q -n 2 --dist loadfile -m "engine and not slow" $(NEAR_C)')
	@$(BIN)/python -m pytest $(if $(strip $(ARGS)),$(ARGS),-n 2 --dist loadfile)

build: $(VENV)/.test ## the engine, in place, warnings being errors

lint: build format-check ## ruff, mypy --strict, and the style of the C
	$(BIN)/ruff check
	$(BIN)/mypy

format: build ## bring the C to the style of .clang-format
	$(BIN)/clang-format -i $(C_CODE)

format-check: build ## whether the C has the style of .clang-format
	$(BIN)/clang-format --dry-run -Werror $(C_CODE)

docs: build ## docs/_build/html/index.html, warnings being errors
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

bench: $(VENV)/.bench ## side by side with the peers, in one run; ARGS: names of benchmarks, --quick, --check, --json FILE, --plots DIR
	@$(BIN)/python -m bench $(ARGS)

test-asan: build ## the tests near the C under AddressSanitizer and UBSan; ARGS go to pytest
	@tools/asan.sh $(BIN)/python pytest $(if $(strip $(ARGS)),$(ARGS),-m engine)

fuzz: build ## 200,000 corruptions of live segments under AddressSanitizer and UBSan; ARGS: --seed N, --only EPISODE, ...
	@tools/asan.sh $(BIN)/python tests.shm.fuzz $(ARGS)

stress: build ## can this lock be trusted here?  ARGS: list, run SCENARIO|all, replay REPORT, faults, each with --help
	@$(BIN)/python -m stress $(ARGS)

prove: build ## the models of the locks in all their states; death after every instruction of every operation
	@tools/need.sh proofs
	@$(BIN)/python proofs/check.py
	@MPCACHE_PROVE=full $(BIN)/python -m pytest -q -rP tests/shm/test_prove.py $(ARGS)

long: build ## the tests that CI plays for seconds, for as long as they are meant to be; ARGS are names of tests
	@MPCACHE_LONG=1 $(BIN)/python -m pytest -q -rP $(if $(strip $(ARGS)),$(ARGS),$(PLAYED_LONGER))

coverage: build ## which lines of mpcache/ the tests run, in child processes too; under 97 % it fails
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -q $(ARGS) || echo "Some tests are too slow while lines are counted; make test is the judge."
	@$(BIN)/coverage combine -q
	@rm -f .coverage.*
	@$(BIN)/coverage report --fail-under=97

mutants: build ## mutants of the modules that decide, which a test must notice; ARGS are other modules
	@$(BIN)/python tools/mutants.py $(ARGS)

sdist: build ## dist/mpcache-*.tar.gz
	$(BIN)/python -m build --sdist

wheel: build ## dist/mpcache-*.whl, by way of the sdist
	$(BIN)/python -m build

clean: ## remove all that these commands made
	rm -rf $(VENV) build dist docs/_build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*
	find . -name '*.so' -delete
	find . -name __pycache__ -prune -exec rm -rf {} +

# The stamps: a venv in which the checkout is installed editable, its engine compiled from these sources.

$(BIN)/pip:
	@tools/need.sh build $(PYTHON)
	@rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo-%: $(BIN)/pip $(RECIPE) $(ENGINE)
	$(BIN)/pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat --editable '.[cli$(if $(filter redis memcached,$*),$(COMMA)$*)]'
	@touch $@

$(VENV)/.test: $(BIN)/pip $(RECIPE) $(ENGINE)
	@tools/need.sh clients $(BIN)/python
	MPCACHE_WERROR=1 $(BIN)/pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat --editable '.[test]'
	@touch $@ $(addprefix $(VENV)/.demo-,shm dbm redis memcached)

$(VENV)/.bench: $(VENV)/.test $(RECIPE)
	$(BIN)/pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat --editable '.[bench]'
	@touch $@
