PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help

.PHONY: help install demo test lint pyright format shape coverage mutate matrix release-check docs bench bench-cluster bench-eta bench-safety bench-throttle interop interop-profiles interop-throttle shared-quota crash power-loss model soak fuzz hostile shells browser clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: .venv/installed ## build .venv with the locked dependencies

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("migrator needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/python -m compileall -q migrator # pip compiles no editable install, and a cron job may not be able to
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m migrator.report.page.render # as above
	@touch $@

demo: install ## rotate some hundred Slack webhooks on a local stand-in for Confluent Cloud
	@$(BIN)/python jobs/demo.py

lint: install ## check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

pyright: install ## check the public face and the examples with a second type checker (from npm)
	npx --yes pyright@1.1.414 --pythonpath $(BIN)/python tests/typing docs/examples

format: install ## write the format, mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: lint ## run the lint, then every test
	$(BIN)/pytest

shape: install ## print the shape of the code: sizes, depth, arrows, what no test imports
	$(BIN)/python tests/shape.py --base $(or $(BASE),HEAD)

coverage: install ## run the tests (or TESTS=tests/unit) with branch coverage, and list what they do not reach, with the reason
	$(BIN)/pytest $(TESTS) --cov=migrator --cov-branch --cov-report=html:build/coverage --cov-report=json:build/coverage.json
	$(BIN)/python tests/uncovered.py build/coverage.json

mutate: install ## change the pure packages in one place at a time, and see whether a test notices; 20 minutes at the most
	$(BIN)/python tests/mutate.py --minutes 20

matrix: install ## run the tests (or TESTS=tests/unit) on every Python 3.11 to 3.14 that this machine has
	$(BIN)/python tests/matrix.py $(TESTS)

release-check: install ## build wheel and sdist twice, compare them, install the wheel and try it
	$(BIN)/python tests/release_check.py

docs: install ## build the documentation as a site, and fail on every broken link
	$(BIN)/sphinx-build -q -W --keep-going -n docs build/docs
	@echo build/docs/index.html

bench: install ## measure throughput, memory and start-up, as ratios within one run (FULL=--full: the targets' sizes)
	$(BIN)/python tests/benchmarks/bench.py $(FULL)

bench-cluster: install ## measure what an item costs the driver, a worker and the scheduler of a run on workers
	$(BIN)/python tests/benchmarks/bench_cluster.py

bench-throttle: install ## compare the throttle with others, on simulated servers
	$(BIN)/python tests/benchmarks/bench_throttle.py

bench-eta: install ## hold the time left that a run tells against the time it takes, in virtual time (1 minute)
	$(BIN)/python tests/benchmarks/bench_eta.py

bench-safety: install ## time 3,000 items with each safety flag and each pair, against the least time (6 minutes)
	timeout 900 $(BIN)/python tests/benchmarks/bench_safety.py

shared-quota: install ## measure runs that share a quota: Redis, and a limiter from npm (about 4 minutes)
	$(BIN)/python tests/shared_quota/measure.py

soak: install ## repeat faults of every kind, then one large run; writes docs/reliability.md
	$(BIN)/python tests/soak.py

interop-profiles: install ## hold the built-in profiles against the vendors' OpenAPI documents in $$MIGRATOR_OPENAPI
	$(BIN)/python tests/interop_profiles.py

interop-throttle: install ## pace requests to limiters that others wrote (npm, PyPI, nginx); 20 minutes at the most
	PYTHONPATH=tests timeout 1200 $(BIN)/python tests/interop_throttle.py

crash: install ## kill each command at each of its durable steps, resume, compare; 20 minutes at the most
	$(BIN)/python tests/crash.py --minutes 20 --write

power-loss: install ## replay the writes of a run as a power loss leaves them (needs strace); 15 minutes at the most
	$(BIN)/python tests/power_loss.py --minutes 15 --write

model: install ## try made-up histories of runs, kills, signals, retries and rollbacks; some minutes
	timeout 1200 $(BIN)/python tests/model.py --write

interop: install ## migrate on real servers that others wrote (Kinto, json-server, Prism), with kills; 15 minutes at the most
	timeout 480 $(BIN)/python tests/interop.py
	timeout 420 $(BIN)/python tests/interop_prism.py

fuzz: install ## let atheris try the readers of CSV, job files and rate-limit headers, a minute each
	$(BIN)/pip install --quiet atheris || true
	$(BIN)/python tests/fuzz/fuzz.py --seconds 60

hostile: install ## 1,000 runs against generated answers, for at most 30 minutes
	$(BIN)/python tests/hostile.py --seconds 1800 --write

shells: install ## try completion in bash, zsh and fish, those that are installed
	$(BIN)/python tests/shells.py

browser: install ## look at the report in Chromium with axe-core (needs node); screenshots in build/browser; 5 minutes at the most
	timeout 300 $(BIN)/python tests/browser/browser.py

clean: ## remove what the other targets built
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
