# Every command of this project. `make` alone lists them.
#
# Nothing is needed but GNU make and Python 3.11 or newer: the environment lives in .venv/, filled from the hash-pinned
# requirements first, then with the project itself, which brings no dependency of its own along.

PYTHON ?= python3
UV     ?= uv
ARGS   ?=
N      ?= 300
SEED   ?= 1
# Three files of tests at a time, those that take longest first: most wait for processes. More would make the timed ones late.
PARALLEL ?= -n 3 --dist loadfile --no-loadscope-reorder
SECONDS ?= 60

VENV   := .venv
BIN    := $(VENV)/bin
# Pinned and hashed is all that comes in. The project itself is linked to the checkout; its build backend is among the pins.
PIN    := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet install --require-hashes
LINK   := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet install --no-deps --no-build-isolation --no-index
LOCK   := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url
CODE   := orchestrator tasks config tests bench crash fuzz

# Readable inside a container under its own user; the folder around them is closed. Passwords are letters and digits, so
# that they can stand in a URL. What only its owner can know is left empty, which counts as not given.
define WRITE_SECRETS
from pathlib import Path
from secrets import token_hex

def keep(name, value):
    file = Path("secrets", name)
    if not file.exists():
        file.write_text(value)
        file.chmod(0o644)
        print("wrote" if value else "made, empty:", file)
    return file.read_text()

password = keep("POSTGRES_PASSWORD", token_hex(24))
keep("COUNTERFOIL_DATABASE_URL", f"postgresql+psycopg://counterfoil:{password}@postgres:5432/counterfoil")
conf = keep("BROKER_CONF", f"requirepass {token_hex(24)}")
keep("COUNTERFOIL_BROKER_URL", f"redis://:{conf.split()[1]}@redis:6379/0")
rabbit = keep("RABBITMQ_CONF", f"default_user = counterfoil\ndefault_pass = {token_hex(24)}\n")
keep("RABBITMQ_URL", f"amqp://counterfoil:{rabbit.split()[-1]}@rabbitmq:5672//")
keep("COUNTERFOIL_API_KEY", token_hex(24))
keep("COUNTERFOIL_NOTIFICATION_PASSWORD", token_hex(24))
keep("COUNTERFOIL_HMAC_KEYS", token_hex(32))
keep("COUNTERFOIL_FLOWER_PASSWORD", token_hex(24))
keep("GRAFANA_PASSWORD", token_hex(24))
keep("COUNTERFOIL_MANAGEMENT_API_KEY", "")
keep("COUNTERFOIL_TAG_KEYS", "")
keep("COUNTERFOIL_CALLBACK_SECRETS", "")
endef
export WRITE_SECRETS

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup setup-dev setup-bench demo up test test-embedded check unit pictures fmt bench gauntlet crash mutate fuzz secrets lock clean

help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# -- the product -------------------------------------------------------------------------------------------------------

demo: setup ## set up, start the product and a simulator, take payments through every kind of trouble
	@$(BIN)/counterfoil demo $(ARGS)

up: setup ## set up and run the product on its embedded servers, against the simulator, until stopped
	@$(BIN)/counterfoil up $(ARGS)

# -- tests and checks --------------------------------------------------------------------------------------------------

test: setup-dev ## set up and run every test; servers that are not found are brought along where packages allow
	@$(BIN)/python -m pytest $(PARALLEL) $(ARGS) tests

test-embedded: setup-dev ## a part of the tests on embedded servers alone, as on a machine without any
	@COUNTERFOIL_TEST_POSTGRES=embedded COUNTERFOIL_TEST_REDIS=embedded COUNTERFOIL_TEST_RABBITMQ=none \
		$(BIN)/python -m pytest -q $(ARGS) tests/integration/test_http_intake.py tests/integration/test_queue.py

check: setup-dev ## what CI runs first: format, lint, types, unit tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q $(PARALLEL) tests/unit

unit: setup-dev ## unit tests alone: no server, seconds
	@$(BIN)/python -m pytest -q $(ARGS) tests/unit

pictures: setup-dev ## take the pictures in the documents anew, with the machine's own Chromium
	@COUNTERFOIL_TEST_PICTURES=write $(BIN)/python -m pytest -q tests/browser -k picture

fmt: setup-dev ## format, and fix what lint can fix
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

# -- measurements ------------------------------------------------------------------------------------------------------

bench: setup-bench ## payments per second and their cost, beside a naive worker and DBOS (ARGS=…)
	@$(BIN)/counterfoil bench $(ARGS)

gauntlet: setup-dev ## N payments of a seeded mix while processes are killed (N=300 SEED=1)
	@$(BIN)/counterfoil gauntlet --payments $(N) --seed $(SEED) $(ARGS)

crash: setup-dev ## kill -9 at every seam of a payment's life (ARGS=…)
	@$(BIN)/python -m crash $(ARGS)

mutate: setup-dev ## change each cell of the transition table and see a test fail (ARGS=…)
	@$(BIN)/python -m tests.mutation $(ARGS)

fuzz: setup-dev ## fuzz the readers of what peers send, for so many SECONDS (SECONDS=60)
	@$(PIN) --only-binary :all: -r requirements-fuzz.txt || { \
	  echo "There is no atheris for $$($(BIN)/python --version) on this machine. The property tests need none: make unit ARGS='-k fuzz'" >&2; exit 1; }
	@mkdir -p out/fuzz
	@$(BIN)/python fuzz/fuzz_wire.py out/fuzz/corpus -max_total_time=$(SECONDS) -artifact_prefix=out/fuzz/ -print_final_stats=1 $(ARGS)

# -- environment -------------------------------------------------------------------------------------------------------

setup: $(VENV)/.runtime ## the environment alone: .venv/ with what the product needs to run

setup-dev: $(VENV)/.dev ## the environment, and what tests and checks need

setup-bench: $(VENV)/.bench ## the environment, and what the benchmarks compare with

lock: ## pin the requirements anew, with uv; commit the result (ARGS=--upgrade)
	$(LOCK) $(ARGS) pyproject.toml --group build --output-file requirements.txt
	$(LOCK) $(ARGS) pyproject.toml --extra otel --group build --constraints requirements.txt --output-file requirements-otel.txt
	$(LOCK) $(ARGS) --group dev --constraints requirements.txt --constraints requirements-otel.txt --output-file requirements-dev.txt
	$(LOCK) $(ARGS) --group bench --constraints requirements.txt --constraints requirements-dev.txt --output-file requirements-bench.txt
	$(LOCK) $(ARGS) --group fuzz --constraints requirements.txt --constraints requirements-dev.txt --output-file requirements-fuzz.txt

secrets: ## write what docker-compose.yml needs under secrets/; nothing that is there is touched
	@mkdir -p -m 0700 secrets
	@$(PYTHON) -c "$$WRITE_SECRETS"

clean: ## remove the environment, caches and build output; never a payment's data
	rm -rf $(VENV) build dist htmlcov .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.*
	find $(wildcard $(CODE)) -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "There is no $(PYTHON). Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, and $(PYTHON) is $$($(PYTHON) --version 2>&1). Name a newer one: make PYTHON=python3.13" >&2; exit 1; }
	@echo "making $(VENV)/"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "$(PYTHON) cannot make environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

# Stamps: each is as new as the files that it was made from, so a second `make` installs nothing.
$(VENV)/.runtime: requirements.txt pyproject.toml | $(BIN)/python
	@echo "installing what the product needs"
	@$(PIN) -r requirements.txt
	@$(LINK) --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.runtime
	@echo "installing what tests and checks need"
	@$(PIN) -r requirements.txt -r requirements-dev.txt
	@touch $@

$(VENV)/.bench: requirements-bench.txt $(VENV)/.dev
	@echo "installing what the benchmarks compare with"
	@$(PIN) -r requirements.txt -r requirements-dev.txt -r requirements-bench.txt
	@touch $@
