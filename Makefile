# Two commands do everything: `make run` and `make test`. Both install what they need first.
SHELL := /bin/bash
PYTHON := .venv/bin/python
ARGS ?=

.PHONY: help run test check unit e2e bench setup setup-test format clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

run: setup  ## install, then start the server with a looping demo lesson
	@exec .venv/bin/tongke demo $(ARGS)

test: setup-test  ## install, then check style and types and run every test
	@$(MAKE) --no-print-directory check
	@$(PYTHON) -m pytest -q $(ARGS)

check: setup-test  ## style and types of Python and of the pages
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@scripts/check-pages.sh

unit: setup-test  ## the tests that start no server and no browser
	@$(PYTHON) -m pytest -q -m "not e2e" $(ARGS)

e2e: setup-test  ## the tests that do
	@$(PYTHON) -m pytest -q -m e2e $(ARGS)

bench: setup-test  ## the measurements of docs/performance.md, as a table and as JSON
	@$(PYTHON) -m tests.bench $(ARGS)

setup:
	@scripts/setup.sh run

setup-test:
	@scripts/setup.sh test

format: setup-test  ## let ruff write the formatting
	@.venv/bin/ruff check --fix-only --quiet .
	@.venv/bin/ruff format --quiet .

clean:  ## remove what set-up and the demo made
	rm -rf .venv build data *.egg-info .mypy_cache .ruff_cache .pytest_cache
