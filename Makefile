# What a newcomer types. `make` alone lists it.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# Folders too: their time changes when a file in them goes.
SOURCES := $(shell find src workers -type d -o -type f) tsconfig.json tsconfig.build.json
PACKAGES := node_modules/.package-lock.json
BUILT := dist/.built

# The tools' caches stay in the checkout.
export XDG_CACHE_HOME := $(CURDIR)/node_modules/.cache

.PHONY: help build demo test faults chaos soak bench bench-full bench-check check clean redis

help:
	@echo 'make build   npm packages and the programs: leaves bin/builder runnable in the checkout'
	@echo 'make demo    the whole system at work on this checkout: schedules a job, runs it twice, checks its artifacts'
	@echo 'make test    the test suite (one file: npm test -- test/integration/stores.test.ts)'
	@echo 'make faults  the tests of faults alone: killed, suspended and cut-off programs, full disks'
	@echo 'make chaos   jobs of every outcome under random faults, then a reconciliation: MINUTES=5 SEED=n'
	@echo 'make soak    RUNS=10000 runs, then looks whether disk, memory, handles, processes and keys are as before'
	@echo 'make bench   speed beside the bare operation and beside other systems: one table, and .bench/results.json (bench-full: longer; bench-check: fails where'
	@echo '             a ratio is worse than those in bench/kept.json; ONLY="NAME…" for some figures)'
	@echo 'make check   types, lint, import rules, formatting, dead code'
	@echo 'make clean   removes what these made: dist/ node_modules/ .tools/ .demo/ .test/ .bench/'

build: $(BUILT)
	@:

$(PACKAGES): package-lock.json
	@sh scripts/npm-packages.sh

$(BUILT): $(PACKAGES) $(SOURCES)
	@npm run --silent build
	@touch $@

redis:
	@sh scripts/fetch-redis.sh

demo: build redis
	@sh scripts/demo.sh

# The checkout's own tools come last: what the system has is preferred.
test: build redis
	@echo 'make test: of the tests of failures those of storage, clocks and a short chaos run here; the others take minutes: make faults'
	@PATH="$$PATH:$(CURDIR)/.tools/bin" CHAOS_SEED=7 npm test --silent -- --testPathIgnorePatterns /node_modules/ 'test/faults/(redis|s3|server|workers)'

faults: build redis
	@PATH="$$PATH:$(CURDIR)/.tools/bin" npm test --silent -- test/faults

# The seed is printed; the same one gives the same jobs and the same faults, at nearly the same moments.
MINUTES ?= 5
SEED ?=
chaos: build redis
	@PATH="$$PATH:$(CURDIR)/.tools/bin" CHAOS_MINUTES=$(MINUTES) CHAOS_SEED=$(SEED) npm test --silent -- test/faults/chaos.test.ts

RUNS ?= 10000
soak: build redis
	@PATH="$$PATH:$(CURDIR)/.tools/bin" SOAK_RUNS=$(RUNS) npm test --silent -- test/faults/housekeeping.test.ts

ONLY ?=
BENCH = node_modules/.bin/tsc -p tsconfig.bench.json && mkdir -p .bench && PATH="$$PATH:$(CURDIR)/.tools/bin" node dist/bench/main.js $(ONLY:%=--only %) --out .bench/results.json
bench: build redis
	@$(BENCH)

bench-full: build redis
	@$(BENCH) --full

bench-check: build redis
	@$(BENCH) --check bench/kept.json

check: $(PACKAGES)
	@npm run --silent check

clean:
	rm -rf dist node_modules .tools .demo .test .bench
