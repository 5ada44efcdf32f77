# What can be done in this repository, one target each; `make help` lists them. `make` runs the tasks, the work is in scripts/.

SHELL := bash
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
# The Postgres majors of `make test-rust`; the first one runs the tests that need a server of any major.
MAJORS ?= 15

python := .venv/bin/python
pytest := $(python) -m pytest -q
# With PATH, so that the commands of an example are those of .venv.
with-daemon = PATH="$(CURDIR)/.venv/bin:$$PATH" scripts/task.sh $@ python3 $(CURDIR)/scripts/with-daemon.py python
# Runs a command; below `make test` with its output in a file, and one line when it ends.
task = scripts/task.sh $@

# ---- What people call

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Build the daemon and run it here, on a Postgres of its own; Ctrl-C stops it
	@exec scripts/run.sh

test: ## Run every check and test, on Postgres 15 (under 12 minutes cold)
	@exec scripts/run-tasks.sh test-tasks

test-clients: ## Test the clients in other languages than Rust and Python: Node, Go
	@exec scripts/run-tasks.sh client-tasks

test-all: ## Run all of `test` on Postgres 14 to 18, then what takes long, `deploy-test` and the benchmark
	@exec scripts/run-tasks.sh all-tasks

check: ## Run what needs no database: formatting, clippy, the Python linters, the lint of this repository
	@exec scripts/run-tasks.sh check-tasks

fmt: ## Format the Rust and the Python code in place
	@exec scripts/fmt.sh

bench: ## Build for release and print the benchmark's numbers
	@$(task) scripts/bench.sh

diagnose-check: rust-build python-environment ## Compare what `pgdibs diagnose` predicts with what three suites take; writes docs/diagnose.md
	@TASK_SECONDS=7200 $(with-daemon) scripts/diagnose-check.py $(ARGS)

soak: ## Random faults over random load for SOAK_MINUTES (10), every lease audited; SOAK_SEED repeats a run
	@exec scripts/soak.sh

mutants: ## Change the code in many small ways and see a test fail each time (cargo-mutants); goes on where it stopped
	@exec scripts/mutants.sh

fuzz: ## Feed random input to what reads requests, configuration and URLs, FUZZ_SECONDS (60) for each
	@exec scripts/fuzz.sh

wheel: ## Build the Python wheel (daemon, client, pytest plugin) for release, into dist/
	@exec scripts/wheel.sh release dist

image: ## Build the container images `pgdibs` and `pgdibs:postgres`
	@exec deploy/images.sh build

deploy-check: python-environment ## Check the files for containers, CI, Kubernetes and systemd against their schemas
	@$(task) scripts/deploy-check.sh

deploy-test: ## Try images, compose and the recipes for CI on a real Docker engine, which it installs on Debian 12 if none runs
	@TASK_SECONDS=3600 $(task) scripts/deploy-test.sh

# The release workflow calls these, with TAG and IMAGE.
release-notes:
	@exec deploy/release-notes.sh "$(TAG)"

image-push:
	@exec deploy/images.sh push

image-join:
	@exec deploy/images.sh join

# ---- The tasks. Each runs alone too: `make clippy`. make starts them in this order, as many at a time as it is told.

check-tasks: rust-format lint words import-circles sql-guards-apply dependencies python-checks shell-checks script-tests clippy
# clippy early: `make run` of test-pages at the end would wait for it, because cargo lets one command at a time use target/.
test-tasks: test-rust clippy test-plugin test-django test-client example-shop example-library test-pages test-contract \
	check-tasks
client-tasks: test-snippets test-page
all-tasks: test-rust-majors test-faults test-plugin-all test-django-all test-client test-wheel test-pytest-versions \
	test-sqlalchemy-1.4 example-shop-all example-shop-killed example-shop-daemon example-library-all test-pages \
	test-contract-all sql-guards deploy-check check-tasks client-tasks deploy-test bench

ifneq ($(filter test-tasks all-tasks check-tasks,$(MAKECMDGOALS)),)
# cargo lets one command at a time use target/; a second one would wait, and occupy a job.
clippy: | $(if $(filter check-tasks,$(MAKECMDGOALS)),,rust-build)
# `make run` replaces the daemon of the tests by one without failpoints.
test-pages: | test-rust$(if $(filter all-tasks,$(MAKECMDGOALS)),-majors test-faults)
bench: | test-pages deploy-test
endif

tools:
	@scripts/install-tools.sh build python

python-environment: tools
	@$(task) scripts/python-environment.sh

rust-build: tools
	@$(task) cargo build --workspace --all-targets --locked

rust-format: tools
	@$(task) cargo fmt --all --check

clippy: tools
	@$(task) cargo clippy --workspace --all-targets --locked -- -D warnings

lint: tools
	@$(task) python3 scripts/lint.py

words: tools
	@$(task) python3 scripts/words.py

import-circles: python-environment
	@$(task) $(python) scripts/import-circles.py

sql-guards-apply: tools
	@$(task) python3 scripts/sql-guards.py --check

python-checks: python-environment
	@$(task) scripts/python-checks.sh

shell-checks: python-environment
	@$(task) scripts/shell-checks.sh

script-tests: python-environment
	@$(task) $(pytest) scripts/tests

dependencies: tools
	@$(task) scripts/dependency-rules.sh

# The soak and the number of random scenarios are small here; `make soak` runs longer.
test-rust: rust-build
	@SOAK_MINUTES=0.2 PGDIBS_SCENARIOS=700 $(task) scripts/rust-tests.sh $(MAJORS)

test-rust-majors: rust-build
	@TASK_SECONDS=2400 $(task) scripts/rust-tests.sh 14 15 16 17 18 -- --profile majors

test-faults: rust-build
	@TASK_SECONDS=3600 $(task) scripts/fault-tests.sh

sql-guards: rust-build
	@TASK_SECONDS=4800 $(task) python3 scripts/sql-guards.py

test-client: rust-build python-environment
	@$(task) $(pytest) -n 3 clients/python/tests/client

test-plugin: rust-build python-environment
	@$(task) $(pytest) -n 3 -m "not long" clients/python/tests/plugin

test-plugin-all: rust-build python-environment
	@$(task) $(pytest) -n 3 clients/python/tests/plugin

test-django: rust-build python-environment
	@$(task) $(pytest) -n 3 -m "not long" clients/python/tests/django

test-django-all: rust-build python-environment
	@$(task) $(pytest) -n 3 clients/python/tests/django

test-wheel: rust-build python-environment
	@$(task) $(pytest) clients/python/tests/wheel

test-pytest-versions: rust-build python-environment
	@TASK_SECONDS=1800 $(task) scripts/pytest-versions.sh pytest==7.4.4 pytest==8.4.2 pytest==9.0.0

test-sqlalchemy-1.4: rust-build python-environment
	@$(task) scripts/pytest-versions.sh sqlalchemy==1.4.54

# From the root, which has no pgdibs.toml, so the tests build the template and not the daemon.
example-shop: rust-build python-environment
	@$(with-daemon) examples/fastapi-shop/run_suites.py --only short

example-shop-all: rust-build python-environment
	@TASK_SECONDS=1800 $(with-daemon) examples/fastapi-shop/run_suites.py

example-shop-killed: rust-build python-environment
	@$(with-daemon) examples/fastapi-shop/run_suites.py --only "killed with a process at work" --repeat 5

# The daemon reads pgdibs.toml of its working directory, and builds the template.
example-shop-daemon: rust-build python-environment
	@export SHOP_TEMPLATE=daemon TASK_DIRECTORY=examples/fastapi-shop; $(with-daemon) run_suites.py --only one

example-library: rust-build python-environment
	@$(with-daemon) examples/django-library/run_suites.py --only short

example-library-all: rust-build python-environment
	@TASK_SECONDS=1800 $(with-daemon) examples/django-library/run_suites.py --own-daemon

test-pages: rust-build python-environment
	@scripts/install-tools.sh jq
	@$(task) $(pytest) -m "not long" docs/tests

test-snippets: rust-build python-environment
	@scripts/install-tools.sh node go
	@$(task) $(pytest) -m long docs/tests

test-page: rust-build python-environment
	@$(task) scripts/page-tests.sh

page-pictures: rust-build python-environment ## Take the pictures of the page in docs/pictures
	@$(task) scripts/page-tests.sh --pictures

test-contract: rust-build
	@$(task) scripts/contract-test.sh short

test-contract-all: rust-build
	@TASK_SECONDS=2400 $(task) scripts/contract-test.sh long

# No target is a file.
.PHONY: $(shell sed -nE 's/^([a-z0-9.-]+):.*/\1/p' $(firstword $(MAKEFILE_LIST)))
