# Two commands: `make demo` runs the main job in the lab, `make test` passes the tests. Both set up what they need on a fresh Debian or Ubuntu.
SHELL := /bin/bash
CACHE := $(or $(SLAPOS_HA_CACHE),$(HOME)/.cache/slapos-ha)
export SLAPOS_HA_CACHE := $(CACHE)
VENV := $(CACHE)/venv
PYTEST := $(VENV)/bin/python -m pytest
# The releases of Salt besides that of test/requirements.txt. The newest patch releases pin a certifi that not every mirror has.
OTHER_SALTS := 3006.28 3008.3

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint unit functional other-salts lab lab-life lab-agent faults docs clean clean-all

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: ## what the other targets need: packages, a Python environment with pinned versions
	@test/setup "$(VENV)"

demo: setup ## the lab: two hosts, the whole deployment with live progress, the final status, a move and a crash
	@$(VENV)/bin/python test/lab/lab demo

test: setup lint other-salts ## every test: lint, unit, functional under three releases of Salt, the lab with its two hosts
	@$(PYTEST) test/unit test/functional test/lab/tests

lint: setup ## ruff and yamllint (docstrings are held to their rules by the unit tests)
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/ruff format --check --quiet .
	@$(VENV)/bin/yamllint --strict slapos_ha/defaults.yaml slapos_ha/schema.yaml pillar.example FORMULA

unit: setup ## pure tests, seconds
	@$(PYTEST) test/unit

functional: setup other-salts ## the real Salt loader, every state in both modes, under three releases of Salt
	@$(PYTEST) test/functional

other-salts: setup
	@test/salts $(OTHER_SALTS)

lab: setup ## the tests with the two hosts only
	@$(PYTEST) test/lab/tests

lab-life: setup ## by hand: data kept and read after a teardown, foreign files in its way, a deployment after it (half an hour)
	@$(PYTEST) test/lab/tests/life_after_teardown.py

faults: setup ## by hand: a deployment for each kind of fault, with the fault at every step (about five hours); writes docs/reliability.md
	@$(VENV)/bin/python test/lab/lab faults --report docs/reliability.md

lab-agent: setup ## by hand: every function of the module opensvc on a real agent: LAB_AGENT=<tree of agent 2.1> make lab-agent
	@$(PYTEST) test/lab/tests/every_opensvc_function.py

docs: setup ## docs/reference, from the docstrings, the pillar's schema and its defaults
	@$(VENV)/bin/python docs/generate.py

clean: ## end this checkout's lab and remove what its tests left
	@if [ -x "$(VENV)/bin/python" ]; then "$(VENV)/bin/python" test/lab/lab clean; fi
	@rm -rf .pytest_cache .hypothesis .ruff_cache

clean-all: clean ## and the cache: image, wheels, Python environment
	@rm -rf "$(CACHE)"
