# Herald. Run "make" for what can be asked for. The go command finds modules as you have told it to (GOFLAGS, GOPROXY, GOMODCACHE).

# A real API server for the unit tests that want one; make test sets it.
export HERALD_CONTROLPLANE

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

GO       ?= go
TOOL     := $(GO) tool -modfile=go.tool.mod
RACE     := .ci/race $(GO) test -race
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  := -s -w -X main.version=$(VERSION)
PROGRAMS  = $(wildcard cmd/herald-* cmd/kubectl-*)
IMAGE    ?= herald:$(VERSION)

# The platforms of the image. bin/linux/arm/v7 and its like are the names that image builders use.
PLATFORMS := linux/amd64 linux/arm64 linux/arm/v7 linux/ppc64le linux/s390x linux/riscv64

# What is a laboratory, or runs in one; everything else is unit tests. Used as $$(...) in recipes, so that a tree that does not build is
# an error and not an empty list.
LABDIRS := /test/(lab|e2e|interop|chaos|observe/live)(/|$$)
UNIT    := all=$$($(GO) list ./...) && grep -vE '$(LABDIRS)|/test/bench(/|$$)' <<<"$$all"
LAB     := all=$$($(GO) list ./...) && grep -E '$(LABDIRS)' <<<"$$all"
GOFILES = $(wildcard $(sort $(shell git ls-files --cached --others --exclude-standard -- '*.go')))

# Says what is being done and how long it took: $(call step,what,command).
define step
@start=$$SECONDS; echo "== $(1)"; $(2) && echo "== $(1): $$((SECONDS - start)) s"
endef

.PHONY: help
help: ## Show this help
	@echo "Herald: LoadBalancer Services for bare metal. What make can do:"
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  \1|\2/' | column -t -s '|'

.PHONY: demo
demo: packages ## See it work: a cluster, routers and clients in network namespaces, real packets, then a summary
	@$(GO) run ./test/lab/cmd/herald-lab demo

.PHONY: lab
lab: packages ## The same laboratory to play with: stays up, prints KUBECONFIG and how to enter a host
	@$(GO) run ./test/lab/cmd/herald-lab up

.PHONY: build
build: ## Build the programs for this machine into bin/
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ $(addprefix ./,$(PROGRAMS))

.PHONY: cross
cross: $(addprefix cross-,$(subst /,-,$(PLATFORMS))) ## Build the programs for all platforms of the image into bin/OS/ARCH

.PHONY: cross-%
cross-%:
	@os=$(word 1,$(subst -, ,$*)) arch=$(word 2,$(subst -, ,$*)) arm=$(patsubst v%,%,$(word 3,$(subst -, ,$*))); \
	echo "building for $*"; \
	CGO_ENABLED=0 GOOS=$$os GOARCH=$$arch GOARM=$$arm $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/$(subst -,/,$*)/ $(addprefix ./,$(PROGRAMS))

.PHONY: image
image: cross-linux-$(shell $(GO) env GOARCH) ## Build the image for this machine with docker or podman
	@engine=$$(command -v docker || command -v podman) || { echo "make image: needs docker or podman" >&2; exit 1; }; \
	$$engine build --build-arg TARGETPLATFORM=linux/$$($(GO) env GOARCH) -t $(IMAGE) -f cmd/Dockerfile .

.PHONY: generate
generate: ## Write the generated files anew: deep copies, CRDs, the chart's copy of them, dashboards
	$(TOOL) controller-gen object crd:crdVersions=v1 paths=./config/v1beta1 output:object:dir=config/v1beta1 output:crd:dir=config/crd
	rm -f charts/herald/charts/crds/crds/*.yaml
	cp config/crd/*.yaml charts/herald/charts/crds/crds/
	$(GO) run ./charts/dashboards charts/herald/files/dashboards

.PHONY: format
format: ## Format the Go files
	@$(TOOL) gofumpt -w $(GOFILES)

.PHONY: check
check: ## Everything that needs neither privileges nor the laboratory: format, vet, lint, generated files, unit tests
	$(call step,format,diff=$$($(TOOL) gofumpt -d $(GOFILES)) && test -z "$$diff" || { test -z "$$diff" || { echo "$$diff"; echo 'run "make format"' >&2; }; false; })
	$(call step,vet,$(GO) vet ./...)
	$(call step,lint,$(TOOL) golangci-lint run ./...)
	$(call step,unit tests,list=$$($(UNIT)) && $(RACE) -timeout 20m $$list)

.PHONY: vulnerabilities
vulnerabilities: ## Look the modules up in the Go vulnerability database (needs the internet)
	$(TOOL) govulncheck ./...

.PHONY: packages
packages: ## Install the distribution's packages that the laboratory uses, where that is possible
	@.ci/packages

.PHONY: test
test: packages ## All of check, then the suites in the laboratory
	$(call step,control plane and checks,plane=$$($(GO) run ./test/lab/cmd/herald-lab build) && $(MAKE) --no-print-directory check HERALD_CONTROLPLANE="$$plane")
	$(call step,laboratory,list=$$($(LAB)) && for p in $$list; do echo "-- $$p"; $(RACE) -count=1 -timeout 40m $$p || exit 1; done)

.PHONY: interop
interop: packages ## Herald's BGP with FRR, BIRD, OpenBGPD, ExaBGP and GoBGP, feature by feature (part of make test)
	$(RACE) -count=1 -timeout 20m -v ./test/interop

.PHONY: bench
bench: ## Benchmarks of the pure rooms, and of the whole in the laboratory
	$(GO) test -run '^$$' -bench . -benchmem ./config/... ./controller/... ./speaker/...
	@if [ -n "$$($(GO) list ./test/bench/... 2>/dev/null)" ]; then HERALD_BENCH_RUNS=$${HERALD_BENCH_RUNS:-5} HERALD_BENCH_SOAK=$${HERALD_BENCH_SOAK:-1m} $(GO) test -p 1 -count=1 -timeout 60m -v ./test/bench/...; fi

.PHONY: bench-assign
bench-assign: ## How quickly addresses are assigned, with 5,000 and 10,000 Services (HERALD_BENCH_SERVICES=1000 for another number)
	$(GO) test -count=1 -timeout 60m -v ./test/bench/assign

.PHONY: bench-l2
bench-l2: packages ## What Layer 2 promises, seen by a client: failover, planned changes, splits, load (HERALD_BENCH_RUNS=20, HERALD_BENCH_SOAK=10m)
	$(GO) test -count=1 -timeout 180m -v ./test/bench/l2

.PHONY: bench-bgp
bench-bgp: packages ## How quickly routes reach routers, at what price, and what a restart does to them
	$(GO) test -count=1 -p 1 -timeout 90m -v ./test/bench/bgp/...

.PHONY: clean
clean: ## Remove what make build has made
	rm -rf bin
