# Flotilla. `make help` lists the targets; `make test` is what a change must pass.
# The integration suite starts real clusters, so it runs after the other rooms and not beside them.
SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO          ?= go
STATICCHECK ?= $(shell command -v staticcheck 2>/dev/null || { p=$$($(GO) env GOPATH)/bin/staticcheck; [ -x $$p ] && echo $$p; })
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# A Debian version begins with a digit; git describe without a tag gives a hash.
PACKAGE_VERSION ?= $(shell echo '$(VERSION)' | sed -E 's/^v//; /^[0-9]/!s/^/0.0.0~git./')
NFPM        ?= $(shell command -v nfpm 2>/dev/null || echo env GOFLAGS=-mod=mod $(GO) run github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.0)
LDFLAGS     := -X main.version=$(VERSION)
PKGS        ?= ./...
# Leaf rooms: quick enough under the race detector to run whole.
RACE_PKGS   ?= ./transport/... ./router/... ./session/... ./raftfsm/... ./cluster/... ./api/... ./integration/harness/... ./integration/checker/...
TEST_TIMEOUT ?= 20m
FUZZTIME    ?= 20s
BENCHTIME   ?= 1x

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build the static binary bin/flotilla
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "$(LDFLAGS)" -o bin/flotilla ./cmd/flotilla

.PHONY: run
run: build ## start a one-node cluster on loopback (data in ./flotilla-data)
	./bin/flotilla start

.PHONY: dev
dev: build ## start a local cluster of three processes (data in ./flotilla-dev)
	./bin/flotilla dev --nodes 3

.PHONY: lint
lint: ## gofmt, go vet and, where it is installed, staticcheck
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then echo "not gofmt-clean:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet $(PKGS)
	@if [ -n "$(STATICCHECK)" ]; then echo "$(STATICCHECK) $(PKGS)"; "$(STATICCHECK)" $(PKGS); else echo "staticcheck is not installed: skipped (.ci/run installs it)"; fi

.PHONY: test
test: lint ## lint, then all tests with the short fault run (about fifteen minutes on two cores)
	$(GO) test -timeout $(TEST_TIMEOUT) $$($(GO) list $(PKGS) | grep -v '/integration$$')
	$(GO) test -timeout $(TEST_TIMEOUT) ./integration

.PHONY: check
check: ## exactly what CI runs
	./.ci/run

.PHONY: race
race: ## all rooms under the race detector
	$(GO) test -race -timeout 30m $(RACE_PKGS)

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME (default 20s)
	@for pkg in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$pkg 2>/dev/null | grep '^Fuzz' || true); do \
			echo "== $$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; \
	done

.PHONY: bench
bench: ## each benchmark, BENCHTIME rounds (default 1x, so that none rots)
	$(GO) test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) -timeout 20m $(PKGS)

.PHONY: faults
faults: ## every fault class, then the long fault runs; the report is left in faults-out/ (an hour)
	FLOTILLA_FAULTS=1 $(GO) test -v -count=1 -timeout 180m -run '^Test(FaultClasses|Failover|Partition|FiveNodes|SharesUnderKills)$$' ./integration

.PHONY: sim
sim: ## 10,000 seeds of simulated clusters, as many at a time as there are processors (hours)
	$(GO) test -c -o bin/sim.test ./integration/sim
	cd integration/sim && FLOTILLA_SIM_SEEDS=$${FLOTILLA_SIM_SEEDS:-10000} ../../bin/sim.test -test.timeout 24h -test.run '^TestSeeds$$'

.PHONY: planted
planted: ## each planted bug must be caught by the suites
	FLOTILLA_PLANTED_ALL=1 $(GO) test -v -count=1 -timeout 120m -run '^TestPlanted' ./integration

.PHONY: security
security: ## the attacks on the cluster port, long form
	FLOTILLA_SECURITY=1 $(GO) test -v -count=1 -timeout 30m -run '^TestSecurity' ./integration

.PHONY: netns
netns: build ## the operators' manual in network namespaces: docs/operations.md is run, and its output written again (needs root)
	FLOTILLA_NETNS=write $(GO) test -v -count=1 -timeout 30m -run '^TestOperationsManual$$' ./integration

.PHONY: probe
probe: ## 10,000 times: is a SUBACK effective everywhere, idle and under faults
	FLOTILLA_SCENARIOS=1 $(GO) test -v -count=1 -timeout 60m -run '^TestProbe' ./integration

.PHONY: lists
lists: ## the lists of the API with 100,000 sessions
	FLOTILLA_SCENARIOS=1 $(GO) test -v -count=1 -timeout 60m -run '^TestLists' ./integration

.PHONY: membership
membership: ## from one node to five and back under traffic
	FLOTILLA_SCENARIOS=1 $(GO) test -v -count=1 -timeout 60m -run '^TestMembership' ./integration

.PHONY: monitoring
monitoring: ## metrics, alert rules and dashboard against the real Prometheus
	FLOTILLA_MONITORING=1 $(GO) test -v -count=1 -timeout 30m -run '^Test(Prometheus|Metrics|Dashboard|Alert)' ./integration

.PHONY: packages-test
packages-test: ## deb, rpm, systemd unit and StatefulSet, tried out
	FLOTILLA_PACKAGES=1 $(GO) test -v -count=1 -timeout 30m -run '^Test(Packages|StatefulSet)' ./integration

.PHONY: bench-peers
bench-peers: build ## this broker, mosquitto and nats-server measured by flotilla bench in one run (bench-out/table.md)
	bash cmd/flotilla/bench/peers.sh bench-out

.PHONY: bench-curves
bench-curves: ## cost of a publish against sessions, retained messages, inbox depth and filters, 10^3 to 10^6
	FLOTILLA_CURVES=1 $(GO) test -run '^$$' -bench 'Curve|Load|TrieMatch|FanOutStored' -benchtime 10000x -timeout 60m ./raftfsm/state ./router

.PHONY: backlog
backlog: ## 1,000,000 queued messages, all nodes restarted, all messages arrive
	FLOTILLA_BACKLOG_MESSAGES=1000000 $(GO) test -v -count=1 -timeout 60m -run '^TestBacklog' ./integration

.PHONY: catchup
catchup: ## a stopped node misses 200,000 messages and catches up by log and by snapshot
	FLOTILLA_CATCHUP_MESSAGES=200000 $(GO) test -v -count=1 -timeout 60m -run '^TestCatchup' ./integration

.PHONY: scenarios
scenarios: ## the full scenarios: 1,000 wills, 1,000,000 retained, abuse, overflow, shares under kills, membership
	FLOTILLA_SCENARIOS=1 $(GO) test -v -count=1 -timeout 120m -run '^Test(Wills|Retained|Abuse|Overflow|SlowConsumer|Shares|Membership)' ./integration

.PHONY: streams
streams: ## 30 minutes of random packet streams against a live node
	FLOTILLA_STREAM_SECONDS=1800 $(GO) test -v -count=1 -timeout 45m -run '^TestRandomStreams' ./integration

.PHONY: trace
trace: ## write TRACEABILITY.md again from the statements and the names of the tests
	FLOTILLA_TRACE=write $(GO) test -count=1 -run '^TestTraceabilityTableIsCurrent$$' ./integration/conformance

.PHONY: cover
cover: ## coverage of all rooms in cover.html
	$(GO) test -short -coverprofile=cover.out -coverpkg=./... $(PKGS)
	$(GO) tool cover -func=cover.out | tail -n 1
	$(GO) tool cover -html=cover.out -o cover.html

.PHONY: clean
clean: ## delete what builds and test runs left behind
	rm -rf bin dist cover.out cover.html faults-out bench-out

.PHONY: packages
packages: build ## deb and rpm in dist/ (nfpm by go run, where it is not installed)
	mkdir -p dist
	for f in deb rpm; do ARCH=$$($(GO) env GOARCH) VERSION=$(PACKAGE_VERSION) $(NFPM) package --config deploy/packages/nfpm.yaml --packager $$f --target dist/; done
