# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Everything is written in tests/tools and tests/lab; a target only names it. Each one sets up what it needs by itself.
PYTHON := $(shell for p in python3.11 python3.12 python3.13 python3; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
TOOLS := $(or $(PYTHON),$(error Python 3.11 or newer is needed)) -m tests.tools $(if $(FORCE),--force)
LAB := $(TOOLS) run python -m tests.lab

.DEFAULT_GOAL := help
.PHONY: help demo test check lint sanity units coverage replay molecule faults repairs healthy bench lab lab-down lab-env docs build requirements env

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## /\1\t/p' $(MAKEFILE_LIST) | expand -t 15

demo:  ## break a real MLflow server, diagnose it, repair it, prove it (about 3 minutes once the lab is built)
	@$(TOOLS) run python -m tests.lab.demo

test:  ## everything that CI runs: check, then Molecule and smoke faults in the lab
	@$(TOOLS) test

check:  ## all checks that need no lab; only what has changed runs again, FORCE=1 runs all
	@$(TOOLS) check

lint:  ## ruff, mypy, yamllint, ansible-lint, documentation, changelog and artifact
	@$(TOOLS) lint

sanity:  ## ansible-test sanity, on the newest ansible-core too where a Python for it is installed
	@$(TOOLS) sanity

units:  ## unit tests on the oldest, the current and the newest ansible-core; ARGS= for one pytest run
	@$(TOOLS) units $(ARGS)

coverage:  ## the share of the collection that its unit tests reach
	@$(TOOLS) coverage $(ARGS)

replay:  ## judge all recorded evidence again, without a cluster
	@$(TOOLS) replay $(ARGS)

molecule: lab  ## the Molecule scenarios; ARGS="test -s NAME" for one of them
	@$(TOOLS) molecule $(ARGS)

faults:  ## break and diagnose real servers, one fault file each: FAULTS=, FAULTS_DIR=, JOBS=, OPERATOR=, RECORD=1 keeps the evidence
	@$(TOOLS) run python -m tests.lab.faults run $(if $(FAULTS),--faults $(FAULTS)) $(if $(FAULTS_DIR),--dir $(FAULTS_DIR)) $(if $(JOBS),--jobs $(JOBS)) $(if $(OPERATOR),--operator $(OPERATOR)) $(if $(RECORD),--record)

repairs:  ## what goes wrong around repairs: killed, raced, contradicted, made worse: ONLY=
	@$(TOOLS) run python -m tests.lab.repairs $(if $(ONLY),--only $(ONLY))

healthy:  ## diagnose healthy servers at random moments: COUNT=, JOBS=
	@$(TOOLS) run python -m tests.lab.faults healthy $(if $(COUNT),--count $(COUNT)) $(if $(JOBS),--jobs $(JOBS))

bench:  ## our diagnosis against the runbooks typed by a script and a plain playbook: ROUNDS=
	@$(TOOLS) run python -m tests.lab.bench --page $(if $(ROUNDS),--rounds $(ROUNDS))

lab:  ## bring the lab up
	@$(LAB) up

lab-down:  ## take the lab down; nothing of it stays but the cache
	@$(LAB) down

lab-env:  ## the settings of the lab's operator: eval "$(make -s lab-env)"
	@$(LAB) env

docs:  ## the generated pages in docs/, and reference pages in build/docs
	@$(TOOLS) docs

build:  ## the Galaxy artifact in build/
	@$(TOOLS) run python -m tests.tools.artifact build

requirements:  ## solve the requirement sets again, with the newest releases
	@$(TOOLS) requirements

env:  ## the tools of the checks for a shell of your own: eval "$(make -s env)"
	@$(TOOLS) env
