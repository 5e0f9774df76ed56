# Every task that a person runs has one target here; `make help` lists them.

SHELL := /bin/bash
TRIPLE := $(shell uname -m)-unknown-linux-musl
export CARGO_TARGET_DIR ?= $(CURDIR)/target
# The product: each is built on its own, so that what one of them needs is not linked into another.
PROGRAMS := containerd-shim-wisp-v1 wisp-runtime wisp-guest wisp-compiler wisp-artifact wisp
BUILT := $(CARGO_TARGET_DIR)/release
# How the guest process is built: `shipped` is optimized over all of its crates. Tests do without, which takes half as long;
# `make test GUEST_PROFILE=shipped` tests what is shipped.
GUEST_PROFILE := shipped
STAGE := $(CARGO_TARGET_DIR)/stage
CARGO_FLAGS := --release --locked --target $(TRIPLE)
BENCH = WISP_BIN=$(STAGE)/usr/local/bin $(CARGO_TARGET_DIR)/$(TRIPLE)/release/wisp-bench

# The image of k8s/installer; SOURCE_DATE_EPOCH is the time of what is in it.
INSTALLER ?= wisp-installer:0.1.0

DESTDIR ?=
PREFIX ?= /usr/local
# What `make bench` measures, each also by `make bench-SUBJECT`.
SUBJECTS := start memory http first guest density registry
LAYERS ?= unit runtime containerd cri node kubernetes
ONLY ?=

.DEFAULT_GOAL := help
.PHONY: help build install installer-image dist dist-aarch64 site demo screenshot test $(addprefix test-,unit runtime containerd cri node kubernetes) lint audit clean guests \
  testbed testbed-bench testbed-kubernetes testbed-wkg testbed-critest test-wkg test-critest test-wasmtime tools stage image-kubernetes \
  bench bench-check bench-programs bench-kubernetes $(addprefix bench-,$(SUBJECTS))

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-19s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo '  make bench-SUBJECT       one subject of the bench ($(SUBJECTS))'
	@echo '  make test-LAYER          one layer of the tests (unit, runtime, containerd, cri, node, kubernetes); ONLY=text runs those whose name has it'

build: ## the programs, static, in target/release/ (what they need is installed first, as root on Debian)
	@scripts/tools.sh build
	@mkdir -p $(BUILT)
	@set -e; for program in $(PROGRAMS); do \
	  echo "building $$program"; \
	  case $$program in wisp-guest) profile=$(GUEST_PROFILE) ;; *) profile=release ;; esac; \
	  cargo build --profile $$profile --locked --target $(TRIPLE) -p $$program; \
	  ln -f $(CARGO_TARGET_DIR)/$(TRIPLE)/$$profile/$$program $(BUILT)/$$program; \
	done

install: ## puts them into $(DESTDIR)$(PREFIX), by default /usr/local; run `make build` first
	@test -x $(BUILT)/wisp || { echo 'nothing is built yet; run `make build` first' >&2; exit 1; }
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/libexec/wisp
	install -m 755 $(addprefix $(BUILT)/,containerd-shim-wisp-v1 wisp-runtime wisp) $(DESTDIR)$(PREFIX)/bin/
	install -m 755 $(addprefix $(BUILT)/,wisp-guest wisp-compiler wisp-artifact) $(DESTDIR)$(PREFIX)/libexec/wisp/

installer-image: build stage ## the container image of k8s/installer, without Docker, as target/wisp-installer.tar
	$(BUILT)/wisp installer-image --name $(INSTALLER) $(STAGE) $(CARGO_TARGET_DIR)/wisp-installer.tar

dist: build ## packages of what is built, in target/dist/: .tar.gz, .deb, an SBOM for each program, SHA256SUMS
	@command -v cargo-cyclonedx >/dev/null || cargo install --quiet --locked cargo-cyclonedx
	@scripts/package.sh

dist-aarch64: export CC_aarch64_unknown_linux_musl := aarch64-linux-gnu-gcc
# Else gcc calls functions of its own library, which nothing here is linked with.
dist-aarch64: export CFLAGS_aarch64_unknown_linux_musl := -mno-outline-atomics
dist-aarch64: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER := rust-lld
dist-aarch64: ## the same for aarch64, built on x86-64 and tried with qemu-user
	@scripts/tools.sh cross
	@command -v cargo-cyclonedx >/dev/null || cargo install --quiet --locked cargo-cyclonedx
	@$(MAKE) --no-print-directory build TRIPLE=aarch64-unknown-linux-musl BUILT=$(CARGO_TARGET_DIR)/aarch64
	@scripts/package.sh aarch64 $(CARGO_TARGET_DIR)/aarch64

site: ## docs/ as a site, in target/site/ (mdBook is installed first, in some minutes); SOURCE_URL=https://… links to the sources there
	@command -v mdbook >/dev/null || cargo install --quiet --locked mdbook --no-default-features --features search
	@scripts/site.sh $(SOURCE_URL)

demo: build ## Wasm under a containerd of its own, step by step; leaves nothing behind
	@scripts/tools.sh demo
	@tests/guests/build.sh rust
	@scripts/demo.sh

screenshot: build ## docs/demo.svg: what `make demo` prints, as a picture for the README
	@scripts/tools.sh demo
	@tests/guests/build.sh rust
	@scripts/screenshot.sh

test test-%: GUEST_PROFILE := release

test: build guests testbed testbed-kubernetes ## everything, by layer; the last line says how many passed and failed
	@scripts/test.sh $(LAYERS)

test-unit:
	@scripts/tools.sh build
	@scripts/test.sh unit

test-runtime: build guests
	@scripts/test.sh runtime

test-containerd: build guests testbed
	@scripts/test.sh containerd

test-cri: build guests testbed
	@scripts/test.sh cri

test-node: build guests testbed
	@scripts/test.sh node

test-kubernetes: build guests $(if $(KUBECONFIG),,testbed testbed-kubernetes) # NODES=host,uml; KUBECONFIG for a cluster of one's own
	@scripts/test.sh kubernetes

test-wkg: build guests testbed testbed-kubernetes testbed-wkg stage # what wkg pushes runs; apart, because wkg takes long to build
	@WISP_BIN=$(STAGE)/usr/local/bin cargo test $(CARGO_FLAGS) --quiet -p wisp-tests --test kubernetes -- \
	  --ignored an_artifact_that_wkg_pushed_is_pulled
	@WISP_BIN=$(STAGE)/usr/local/bin cargo test $(CARGO_FLAGS) --quiet -p wisp-tests --test runtime -- \
	  --ignored wkg_and_wisp

test-critest: build guests testbed testbed-critest stage # Kubernetes' suite for CRI, under Wisp and runc; apart, because it takes long
	@WISP_BIN=$(STAGE)/usr/local/bin cargo test $(CARGO_FLAGS) --quiet -p wisp-tests --test cri -- --ignored --nocapture the_validation_suite

test-wasmtime: build guests testbed testbed-bench stage # what wisp makes runs under Wasmtime; apart, because that takes long to build
	@WISP_BIN=$(STAGE)/usr/local/bin cargo test $(CARGO_FLAGS) --quiet -p wisp-tests --test runtime -- \
	  --ignored wasmtime_runs

image-kubernetes: guests # for a cluster of one's own: target/guests.tar holds the image IMAGE
	@tests/bed/kubernetes.sh busybox
	cargo run $(CARGO_FLAGS) --quiet -p wisp-tests --example guests -- $(or $(IMAGE),wisp.test/guests:1) $(CARGO_TARGET_DIR)/guests.tar

bench: bench-programs ## every figure beside runc, Wasmtime and the least that is possible, in target/bench/ (docs/performance.md)
	@$(BENCH)

bench-check: bench-programs ## the same, and fails where a figure is not what tests/bench/promises.toml promises
	@$(BENCH) --check

$(addprefix bench-,$(SUBJECTS)): bench-%: bench-programs # one subject; WISP_BENCH_ROUNDS (25), WISP_BENCH_PODS (500)
	@$(BENCH) $*

# Apart, so that what the bench needs is not linked into the shim and the server that it compares with.
bench-programs: build guests testbed testbed-bench stage
	@tests/guests/build.sh speed
	@set -e; for program in containerd-shim-null-v1 instance-floor native-http wisp-bench; do cargo build $(CARGO_FLAGS) --quiet -p $$program; done

bench-kubernetes: build guests testbed testbed-kubernetes stage ## the time from `kubectl apply` to Ready, beside runc
	@NODES=host WISP_BIN=$(STAGE)/usr/local/bin cargo test $(CARGO_FLAGS) --quiet -p wisp-tests --test kubernetes -- \
	  --ignored --nocapture the_time_until_pods_are_ready

stage:
	@$(MAKE) --no-print-directory install DESTDIR=$(STAGE) PREFIX=/usr/local >/dev/null

lint: ## formatting and clippy, warnings as errors
	@scripts/tools.sh test
	cargo fmt --all --check
	cd tests/guests/rust && cargo fmt --all --check
	cd tests/bench/guest && cargo fmt --all --check
	cargo clippy $(CARGO_FLAGS) --workspace --all-targets --quiet -- -D warnings

audit: ## licences, sources and bans of the dependencies (deny.toml)
	@command -v cargo-deny >/dev/null || cargo install --quiet --locked cargo-deny
	cargo deny --workspace check bans licenses sources

guests: ## the programs that the tests run, each by its language's own toolchain, in target/guests/
	@scripts/tools.sh test
	@tests/guests/build.sh

testbed: ## the containerds that the tests run, in /var/cache/wisp-bed (or $WISP_BED)
	@scripts/tools.sh test
	@tests/bed/build.sh

testbed-bench: ## what the bench compares with, in the same place
	@tests/bed/bench.sh

testbed-kubernetes: ## Kubernetes and a node with systemd and cgroup v2, in the same place
	@scripts/tools.sh kubernetes
	@tests/bed/kubernetes.sh

testbed-critest: # critest, and the busybox that its images are made of, in the same place
	@tests/bed/build.sh critest
	@tests/bed/kubernetes.sh busybox

testbed-wkg: # wkg, which takes eight minutes of a processor, in the same place
	@tests/bed/kubernetes.sh wkg

tools: ## installs what building and testing need from outside Cargo (Debian, as root)
	@scripts/tools.sh test

clean: ## removes what was built; the testbed stays
	rm -rf $(CARGO_TARGET_DIR) tests/guests/js/node_modules
