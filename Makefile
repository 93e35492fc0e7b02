.PHONY: help reference up test test-postgresql test-fast test-faults test-console screenshots test-containers test-pythons storm check fmt bench bench-quick bench-growth bench-scale timeline demo migration clean lock
.DEFAULT_GOAL := help

PYTHON ?= python3
# A file's tests run in one process, so that they can share a service; there are more processes than cores, since
# many tests wait. A process that is lost ends the run: replaced, it may leave pytest-xdist waiting for ever.
# Without compiled modules kept, each process of each service would compile the project again.
PYTEST = -m pytest -n 4 --dist loadfile --no-loadscope-reorder --max-worker-restart 0 $(ARGS)
unexport PYTHONDONTWRITEBYTECODE
PIP := .venv/bin/python -m pip --quiet --disable-pip-version-check

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST)

up: .venv/up ## Run the whole service on this machine; Ctrl-C stops it
	@exec .venv/bin/cqrs up

FAST := tests/stores tests/unit tests/domain

test: .venv/dev ## Run all tests but those of the verbs below, in 5 minutes
	@.venv/bin/python $(PYTEST) -m "not long and not again" tests/operations tests/api tests/project $(FAST)

test-postgresql: .venv/dev ## Run a second time, on PostgreSQL, those that must end the same on both engines, in 2 minutes
	@.venv/bin/python $(PYTEST) -m "again and not long" tests/operations tests/api $(FAST)

test-fast: .venv/dev ## Run those that start no process and no server, in a minute
	@.venv/bin/python $(PYTEST) -n auto --maxprocesses 4 -m "not postgresql and not processes" $(FAST)

test-faults: .venv/dev ## Run those under faults, and those marked long, with all the time that they may take, in 10 minutes
	@LONG=1 .venv/bin/python $(PYTEST) -m "faults or long" tests/faults tests/operations tests/api tests/stores

test-console: .venv/dev .venv/npm ## Run those of the console in a browser, as far as Chromium and npm are here, in 5 minutes
	@.venv/bin/python -m pytest $(ARGS) tests/console

screenshots: .venv/dev ## Make the README's pictures of the console anew; needs Chromium
	@.venv/bin/python -m tests.console.screenshots

test-containers: .venv/dev ## Run those of the containers and of HAProxy, as far as these are here
	@.venv/bin/python $(PYTEST) tests/containers

test-pythons: .venv/dev ## Run those without a service on every other Python: python3.X on the PATH, or one of pyenv's
	@.ci/pythons $(PYTEST) tests/operations/test_refusals.py $(FAST)

storm: .venv/dev ## Kill and freeze processes 200 times under load, then account for every command; STORE=postgresql
	@.venv/bin/python -m tests.faults.storm --store $(or $(STORE),sqlite) $(ARGS)

check: .venv/dev ## Lint, format, types and import contracts; changes nothing
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

fmt: .venv/dev ## Format, and mend what the linter can
	@.venv/bin/ruff check --fix-only .
	@.venv/bin/ruff format .

demo: .venv/dev ## Drive the running service with 10,000 people and 5,000 changes, then check everything
	@.venv/bin/python -m benchmarks.demo

bench: .venv/dev ## Measure the service beside others and what the machine allows, 15 minutes
	@.venv/bin/python -m benchmarks.bench

bench-quick: .venv/dev ## The same in 2 minutes; fails if a ratio is missed by more than noise explains, also when measured again
	@.venv/bin/python -m benchmarks.bench quick

bench-growth: .venv/dev ## Measure how cost grows with streams, log, commands and connections, 10 minutes
	@.venv/bin/python -m benchmarks.bench growth

bench-scale: .venv/dev ## Measure what more processes give, on SQLite and PostgreSQL, 12 minutes
	@.venv/bin/python -m benchmarks.bench scaling

timeline: .venv/dev ## Draw where the time of a lone command goes, step by step
	@.venv/bin/python -m benchmarks.timeline

reference: .venv/dev ## Renew the pages of the command and of roles in docs/reference/
	@.venv/bin/python -m tests.support.reference

migration: .venv/up ## Make a revision of a store's schema: STORE=event_store MESSAGE="…"
	@.venv/bin/alembic -n $(STORE) revision -m "$(MESSAGE)" --rev-id $$(ls shared/schemas/migrations/$(STORE)/r*.py | wc -l | xargs expr 1 + | xargs printf %04d)

lock: ## Pin every dependency anew, with hashes; needs uv
	uv pip compile --quiet --universal --generate-hashes --upgrade --extra build --extra oidc -o requirements.txt pyproject.toml
	uv pip compile --quiet --universal --generate-hashes --upgrade --extra build --extra dev -c requirements.txt -o requirements-dev.txt pyproject.toml

.venv/npm: tests/console/package-lock.json
	@mkdir -p $@ && cp tests/console/package.json $< $@ && touch $@
	@! command -v npm >/dev/null || npm --prefix $@ install --ignore-scripts --no-audit --no-fund --loglevel error || rm -rf $@/node_modules

clean: ## Remove the virtual environments and the caches, never the data
	rm -rf .venv .venv-* *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/up: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; PYTHON=… names one")'
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@echo "Installing what the service needs into .venv …"
	@$(PIP) install --require-hashes -r requirements.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

.venv/dev: .venv/up requirements-dev.txt
	@echo "Installing what the tests need into .venv …"
	@$(PIP) install --require-hashes -r requirements-dev.txt
	@touch $@
