# The commands of everyday use: `make` lists them. What they do is in deploy/install.py and manage.py.

# The first Python that runs and is new enough. The one of .venv comes first: it saves trying the others.
PYTHON ?= $(shell for python in .venv/bin/python python3.13 python3.12 python3.11 python3; do \
	$$python -c "import sys; sys.exit(sys.version_info < (3, 11))" >/dev/null 2>&1 && echo $$python && break; done)
install = $(or $(PYTHON),$(error Pictor needs Python 3.11 or newer, and finds none. Install it, \
	or name it: make $@ PYTHON=/path/to/python3.11)) deploy/install.py

ifeq ($(origin PORT),command line)
export PICTOR_PORT = $(PORT)
endif
# As it was typed: a $5 in it is no variable of make's.
override PROMPT := $(value PROMPT)
export PROMPT

# Compiled modules are kept whatever the shell says: without them each start takes many seconds longer.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run picture test test-faults soak study check

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

run:  ## install, start everything, make a first picture; Ctrl-C stops it (PORT=8001 for another port)
	@$(install)
	@.venv/bin/python manage.py up

picture:  ## make one picture: make picture PROMPT="a blue whale"
	@$(install)
	@.venv/bin/python manage.py picture "$$PROMPT"

test:  ## run the tests, on SQLite and on PostgreSQL
	@$(install) --dev
	@.venv/bin/python -m pytest
	@.venv/bin/python -m pytest --database=postgres $(addprefix tests/,admin api faults generation service webhooks)

test-faults:  ## only the tests that kill, pause and cut off the parts of a running service
	@$(install) --dev
	@.venv/bin/python -m pytest -m faults tests/faults
	@.venv/bin/python -m pytest -m faults --database=postgres tests/faults

soak:  ## generations under random faults, and the ledger: make soak MINUTES=10 (DATABASE=postgres for PostgreSQL)
	@$(install) --dev
	@.venv/bin/python benchmarks/soak.py --minutes $(or $(MINUTES),10) --database $(or $(DATABASE),sqlite)

study:  ## compare the ways to the engine and the ways to spread load, into docs/study.md (QUICK=1: small, and only shown)
	@$(install) --dev
	@.venv/bin/python -m benchmarks.study $(if $(QUICK),--quick)

check:  ## check format, lint, types and imports
	@$(install) --dev
	@.venv/bin/python -m ruff format --check .
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m mypy
	@.venv/bin/lint-imports
