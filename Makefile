# Everything that people do with a checkout. Each target builds .venv first when it is missing or out of date.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.DEFAULT_GOAL := help
.PHONY: help demo worker broker test test-fast soak fuzz lint format bench constraints clean

# How long the demo runs and what it replays reach the program as options: SECONDS is a name that some shells
# change under the hand of whoever reads it. NOWCAST_* pass through the environment as they are.
DEMO_OPTIONS = $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SCENARIO),--scenario $(SCENARIO)) $(if $(RATE),--rate $(RATE))
SOAK_OPTIONS = $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(if $(DELIVERY),--delivery $(DELIVERY))

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: $(STAMP) ## score a stream on an embedded broker and show the page; SECONDS=n, SCENARIO=name, RATE=n, NOWCAST_BROKER=url
	$(BIN)/python -m app.demo $(DEMO_OPTIONS)

worker: $(STAMP) ## start a worker on the broker of NOWCAST_BROKER (kafka://localhost:9092)
	$(BIN)/faust -A app worker -l info

broker: $(STAMP) ## start an embedded broker, everything in memory; PORT=9092
	$(BIN)/python -m app.embedded --port $(or $(PORT),9092)

test: $(STAMP) ## run all tests, two at a time; Apache Kafka's need Java 17 and Maven; JOBS=n, ARGS='-k name'
	$(BIN)/python -m pytest -n $(or $(JOBS),2) --dist loadfile $(ARGS)

test-fast: $(STAMP) ## run the tests that need no broker
	$(BIN)/python -m pytest -m "not live" $(ARGS)

soak: $(STAMP) ## disturb workers on Apache Kafka at random and judge what comes of it; MINUTES=30, SEED=n, DELIVERY=exactly_once
	$(BIN)/python -m tests.live.soak $(SOAK_OPTIONS)

fuzz: $(STAMP) ## feed wrong events, models and states to what reads them, TIMES as much as `make test`; TIMES=100
	FUZZ_TIMES=$(or $(TIMES),100) $(BIN)/python -m pytest tests/fuzz $(ARGS)

lint: $(STAMP) ## check style (ruff) and types (mypy)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## let ruff put the style right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## measure Nowcast, plain Faust and a hand-written loop side by side
	$(BIN)/python -m benchmarks $(ARGS)

# uv, in an environment of its own, because pip cannot resolve for several Pythons at once.
constraints: ## write constraints.txt anew: the newest releases within pyproject.toml's ranges
	$(PYTHON) -m venv .cache/uv
	.cache/uv/bin/pip install --quiet uv
	sed -n '/^#/p' constraints.txt > .cache/constraints.txt
	.cache/uv/bin/uv pip compile pyproject.toml --quiet --upgrade --universal --python-version 3.10 --all-extras \
		--only-binary :all: --no-emit-index-url --no-emit-find-links --no-annotate --no-header \
		--output-file .cache/resolved.txt
	cat .cache/constraints.txt .cache/resolved.txt > constraints.txt

clean: ## remove what make and the workers left behind: environment, caches, Kafka's jars, local state
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info build tests/kafka/target nowcast-data
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; (3, 10) <= sys.version_info[:2] <= (3, 13) or sys.exit("Nowcast needs Python 3.10 to 3.13, and $(PYTHON) is %d.%d: say make PYTHON=python3.11, for example" % sys.version_info[:2])'
	@echo 'Installing into $(VENV): about a minute, the first time'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[embedded,demo,test]"
	@touch $@
