.PHONY: up test check fmt bench demo clean lock
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin

help: ## This list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

up: .venv/runtime ## Run the whole service; Ctrl-C stops it
	@$(BIN)/cqrs up

.venv/runtime: requirements.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv/dev: .venv/runtime requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

lock: ## Pin every dependency anew
	uv pip compile --universal --generate-hashes --upgrade --extra build -o requirements.txt pyproject.toml
	uv pip compile --universal --generate-hashes --extra build --extra dev -c requirements.txt -o requirements-dev.txt pyproject.toml
