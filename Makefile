# What can be done in this repository, one target each; `make help` lists them. The work is in scripts/.

SHELL := bash
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help run test test-all check fmt bench soak mutants fuzz wheel deploy-test

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Build the daemon and run it here, on a Postgres of its own; Ctrl-C stops it
	@exec scripts/run.sh

test: ## Run every check and test, on Postgres 15 (under 12 minutes cold)
	@exec scripts/run-tasks.sh test

test-all: ## Run all of `test` on Postgres 14 to 18, then what takes long, then the benchmark
	@exec scripts/run-tasks.sh test-all

check: ## Run what needs no database: formatting, clippy, the Python linters, the lint of this repository
	@exec scripts/run-tasks.sh check

deploy-test: ## Try images, compose, CI jobs, pod and unit on a real Docker engine, which it installs on Debian 12 if none runs
	@exec scripts/deploy-test.sh

fmt: ## Format the Rust and the Python code in place
	@exec scripts/fmt.sh

bench: ## Build for release and print the benchmark's numbers
	@exec scripts/bench.sh

soak: ## Random faults over random load for SOAK_MINUTES (10), every lease audited; SOAK_SEED repeats a run
	@exec scripts/soak.sh

mutants: ## Change the code in many small ways and see a test fail each time (cargo-mutants); goes on where it stopped
	@exec scripts/mutants.sh

fuzz: ## Feed random input to what reads requests, configuration and URLs, FUZZ_SECONDS (60) for each
	@exec scripts/fuzz.sh

wheel: ## Build the Python wheel (daemon, client, pytest plugin) for release, into dist/
	@exec scripts/wheel.sh release dist
