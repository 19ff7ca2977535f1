# Two commands: `make demo` runs the main job in the lab, `make test` passes the tests. Both set up what they need on a fresh Debian or Ubuntu.
SHELL := /bin/bash
CACHE := $(or $(SLAPOS_HA_CACHE),$(HOME)/.cache/slapos-ha)
export SLAPOS_HA_CACHE := $(CACHE)
VENV := $(CACHE)/venv
PYTEST := $(VENV)/bin/python -m pytest
# The releases of Salt besides that of test/requirements.txt, which test/releases runs the functional tests under. The newest patch releases pin a certifi that not every mirror has.
export OTHER_SALTS := 3006.28 3008.3
# For the tests with real packets, and that of a rollout's page, which is skipped elsewhere: Ubuntu has chromium as a snap only.
TESTED_WITH := nftables $(shell grep -qx 'ID=debian' /etc/os-release && echo chromium)

.DEFAULT_GOAL := help
.PHONY: help setup venv demo test lint unit unit-docs functional other-salts lab lab-life lab-runbooks lab-agent lab-partition lab-kitchen lab-release faults bench scale docs guide release clean clean-all

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: venv ## what the other targets need: packages, a Python environment with pinned versions
	@test/packages $(TESTED_WITH)

venv: ## the Python environment alone: what `make demo` needs of it
	@test/setup "$(VENV)"

demo: venv ## the lab: two hosts, the whole deployment with live progress, the final status, a move and a crash
	@$(VENV)/bin/python test/lab/lab demo

# The hosts' image first, with the whole machine: beside other tests it takes twice as long, and the longest line of tests waits for it.
test: setup lint other-salts ## every test: lint, unit, functional under three releases of Salt, the lab with its two hosts
	@$(VENV)/bin/python test/lab/lab image
	@$(PYTEST) -n 4 test/lab/tests test/releases test/unit test/functional

lint: setup ## ruff and yamllint (docstrings are held to their rules by the unit tests)
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/ruff format --check --quiet .
	@$(VENV)/bin/yamllint --strict slapos_ha/defaults.yaml slapos_ha/schema.yaml pillar.example FORMULA kitchen.yml docs/reference.yaml test/bench/explained.yaml test/bench/ansible/converge.yml .pre-commit-config.yaml

unit: setup ## pure tests, seconds
	@$(PYTEST) test/unit

unit-docs: setup ## the unit tests of docstrings and documentation only
	@$(PYTEST) test/unit/docs

functional: setup other-salts ## the real Salt loader, every state in both modes, under three releases of Salt
	@$(PYTEST) -n 3 test/releases test/functional

other-salts: setup
	@printf '%s\n' $(OTHER_SALTS) | xargs -P 2 -I {} test/setup "$(CACHE)/salt-{}" {}

lab: setup ## the tests with the two hosts only
	@$(PYTEST) -n 2 test/lab/tests

lab-life: setup ## by hand: data kept and read after a teardown, foreign files in its way, a deployment after it (half an hour)
	@$(PYTEST) test/lab/tests/life_after_teardown.py

lab-runbooks: setup ## by hand: the commands of each runbook, in the situation that it is for (an hour)
	@$(PYTEST) test/lab/tests/runbooks_in_the_lab.py

faults: setup ## by hand: a deployment for each kind of fault, with the fault at every step (about five hours; one kind: FAULTS='--faults host'); writes docs/reliability.md
	@$(VENV)/bin/python test/lab/lab faults --report $(FAULTS)

lab-agent: setup ## by hand: every function of the module opensvc on a real agent: LAB_AGENT=<tree of agent 2.1> make lab-agent
	@$(PYTEST) test/lab/tests/every_opensvc_function.py

lab-partition: setup ## by hand: two nodes that hear nothing of each other, and the end of it: LAB_AGENT=<tree of agent 2.1> make lab-partition
	@$(PYTEST) -s test/lab/tests/partition.py

lab-kitchen: setup ## by hand: the suites of kitchen.yml on a host of the lab, without Docker and Ruby (a quarter of an hour)
	@$(PYTEST) test/lab/tests/kitchen_suites.py

lab-release: setup ## by hand: two blank hosts deployed from the package that `make release` builds (a quarter of an hour)
	@$(PYTEST) test/lab/tests/release_in_the_lab.py

bench: setup ## by hand: what it costs, as ratios, in a lab of its own (about two hours); writes docs/performance.md; BENCH='--only move' for a part
	@$(VENV)/bin/python test/bench/run.py $(BENCH)

scale: setup ## by hand, root: what many sites cost a master whose minions are played (an hour); writes test/bench/scale.json, the tables of docs/scale.md and its row of docs/performance.md
	@$(VENV)/bin/python test/bench/scale.py run
	@$(VENV)/bin/python test/bench/run.py --merge test/bench/scale.json

docs: setup ## docs/reference and docs/pictures, from docstrings, schema, orchestrations, code and recorded terminals; tables of docs/scale.md
	@$(VENV)/bin/python docs/generate.py

guide: setup ## by hand: the commands of docs/guide.md in the lab; puts their outputs into it (a quarter of an hour)
	@$(VENV)/bin/python test/lab/lab guide

release: setup ## an SPM package and a source archive of this commit in dist/, with SHA256SUMS, installed once into an empty root
	@$(VENV)/bin/python tools/release.py --into dist

clean: ## end this checkout's labs and remove what its tests left
	@if [ -x "$(VENV)/bin/python" ]; then "$(VENV)/bin/python" test/lab/lab clean && "$(VENV)/bin/python" test/bench/run.py --clean; fi
	@rm -rf .pytest_cache .hypothesis .ruff_cache

clean-all: clean ## and the cache: image, wheels, Python environment
	@rm -rf "$(CACHE)"
