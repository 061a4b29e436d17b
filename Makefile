# make help lists the targets.
GO       ?= go
LINTER   := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
FUZZTIME ?= 30s
FUZZFLAGS ?=
SMOKETIME ?= 5s
FAULTS   ?= build/faults
FOR      ?= 5m

.PHONY: help build test short race vet lint fuzz fuzz-smoke faults faults-random bench demo verify clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build the binary
	$(GO) build -trimpath -o lanternist ./cmd/lanternist

test: ## all tests, on real services that start by themselves
	$(GO) test ./...

short: ## the tests that need no service
	$(GO) test -short ./...

race: ## all tests with the race detector
	$(GO) test -race ./...

vet: ## go vet
	$(GO) vet ./...

lint: ## the linter, fetched at its pinned version
	$(GO) run $(LINTER) run ./...

fuzz: ## fuzz every target in turn, for FUZZTIME each
	@grep -rn --include='*_test.go' '^func Fuzz' . | sed -E 's#^(.*)/[^/]*:[0-9]+:func (Fuzz[A-Za-z0-9]*).*#\1 \2#' | sort | \
	while read -r package target; do \
		echo "== $$package $$target"; \
		$(GO) test $$package -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $(FUZZFLAGS) </dev/null || exit 1; \
	done

fuzz-smoke: ## fuzz for a moment what reads the stream, rows, batches and configuration
	$(GO) test ./cdc -run '^$$' -fuzz '^FuzzDecode$$' -fuzztime $(SMOKETIME)
	$(GO) test ./row -run '^$$' -fuzz '^FuzzCodec$$' -fuzztime $(SMOKETIME)
	$(GO) test ./journal -run '^$$' -fuzz '^FuzzDecodeBatch$$' -fuzztime $(SMOKETIME)
	$(GO) test ./config -run '^$$' -fuzz '^FuzzParse$$' -fuzztime $(SMOKETIME)

faults: ## cause every fault, heavy ones too, and write docs/reliability.md of what came of it
	rm -rf $(FAULTS) && mkdir -p $(FAULTS)
	LANTERNIST_REQUIRE_SERVICES=1 LANTERNIST_FAULTS=all LANTERNIST_FAULTS_FOR=$(FOR) LANTERNIST_FAULTS_DIR=$(abspath $(FAULTS)) \
		$(GO) test -count=1 -p 1 -timeout 120m -run '^Test(Fault|Sabotage)' ./...
	$(GO) run ./internal/faults/report $(FAULTS) > $(FAULTS)/reliability.md
	cp $(FAULTS)/reliability.md docs/reliability.md

faults-random: ## cause faults at random for FOR, under traffic, and judge everything
	LANTERNIST_REQUIRE_SERVICES=1 LANTERNIST_FAULTS_FOR=$(FOR) $(GO) test -count=1 -v -timeout 3h -run '^TestFaultRandom$$' ./e2e

bench: ## the benchmark: ratios to limits measured in the same run
	$(GO) run ./bench

demo: ## the demo: real services, live traffic
	$(GO) run ./cmd/lanternist demo

verify: ## the demo that checks itself and exits
	$(GO) run ./cmd/lanternist demo --once

clean: ## remove what was built
	rm -f lanternist
