# The one door. Every target does the set-up it needs; the second time that costs well under a second.
SETUP := .ci/setup.sh
PYTHON := .venv/bin/python
SYSTEM_TESTS := $(PYTHON) -m pytest tests/system
BESIDE_OTHERS := -n 2 --dist loadfile

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo test lint unit cli system bench clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*##/  make \1\t/p' Makefile

setup:  ## Debian packages (as root or through sudo) and .venv, nothing else
	@$(SETUP) all

demo: setup  ## daemon, lab, ping matrix and the journey of one packet; on a terminal, a Mininet prompt
	@$(SETUP) root .venv/bin/tunbridge demo

test: setup  ## lint, unit tests, the commands as processes, then real Open vSwitch (root)
	@$(MAKE) --no-print-directory lint unit cli system

lint:  ## ruff, flake8 and strict mypy
	@$(SETUP) venv
	.venv/bin/ruff check .
	.venv/bin/flake8
	.venv/bin/mypy

unit:  ## unit tests; no root, no Open vSwitch
	@$(SETUP) venv
	$(PYTHON) -m pytest -n auto tests/unit

cli:  ## the commands and the daemon as processes, and what is long for a unit test; no root, no Open vSwitch
	@$(SETUP) venv
	$(PYTHON) -m pytest -n auto tests/cli

system:  ## system tests alone (root)
	@$(SETUP) venv
	@$(SETUP) root $(SYSTEM_TESTS) $(BESIDE_OTHERS) -m shared
	@failed=0; \
	$(SETUP) root $(SYSTEM_TESTS) $(BESIDE_OTHERS) -m 'not shared and not alone' || failed=$$?; \
	test $$failed -gt 1 || $(SETUP) root $(SYSTEM_TESTS) -m alone || failed=$$?; \
	test $$failed -ne 1 || { \
		echo "What failed is played once more, alone; both outcomes stand here."; \
		$(SETUP) root $(SYSTEM_TESTS) --last-failed --last-failed-no-failures none --maxfail 1 && failed=0; }; \
	exit $$failed

bench: setup  ## the measurements of bench/README.md (root)
	@$(SETUP) root $(PYTHON) bench/run.py
	@$(SETUP) root $(PYTHON) bench/routing.py
	@$(SETUP) root $(PYTHON) bench/edge.py
	@$(SETUP) root $(PYTHON) bench/edge_rules.py
	@$(SETUP) root $(PYTHON) bench/tracking.py
	@$(SETUP) root $(PYTHON) bench/reach.py

clean:  ## remove what the set-up, the tests and the tools left in this directory
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
