# Everything there is to do with this repository. CI calls the same targets.
# The work is in the scripts below tools/, where it can be read and tried alone.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
# No VCS stamping by the go command: it refuses a checkout of another owner.
GOBUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false \
	-ldflags "-s -w -X github.com/clewsec/clew/internal/buildinfo.version=$(VERSION)"
FUZZTIME ?= 30s

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: build ## play a safe attack on this host and show its story (needs Go alone; Ctrl-C ends it)
	@bin/clew demo --keep

.PHONY: build
build: ## build bin/clew (needs Go alone)
	@tools/setup.sh build
	@$(GOBUILD) -o bin/clew ./cmd/clew

.PHONY: generate
generate: ## write everything that is derived from something else
	@tools/setup.sh test
	@tools/generate.sh

.PHONY: lint
lint: ## formatting and static checks of Go, C and TypeScript
	@tools/setup.sh test
	@tools/lint.sh

.PHONY: test
test: ## all tests: generated code, lint, Go, virtual machine, page (installs what is missing)
	@tools/setup.sh test
	@tools/generate.sh --check
	@tools/lint.sh
	@tools/test.sh go
	@tools/test.sh vm
	@tools/test.sh web

.PHONY: soak
soak: ## the long variants of the tests
	@tools/setup.sh test
	@tools/test.sh soak

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (30s)
	@tools/test.sh fuzz $(FUZZTIME)

.PHONY: vm
vm: ## the tests of the kernel side, here and in virtual machines
	@tools/setup.sh test
	@tools/test.sh vm

.PHONY: web
web: ## build the page into web/dist
	@tools/setup.sh web
	@tools/web.sh build

.PHONY: bench
bench: ## benchmarks of the hot paths
	@tools/test.sh bench
