# Twinlock: `make` alone lists the targets.
SHELL := /bin/sh
.DEFAULT_GOAL := help
TARGET := $(or $(CARGO_TARGET_DIR),target)
# What the demo reads from its caller.
export SHELL_ME PHONES ORIGIN TLS_CERT TLS_KEY SUMMARY
# What packages read from theirs.
export PROFILE VERSION OUT
# What the booted tests read from theirs.
export RELEASES

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | \
		awk -F '\t' '{ printf "  make %-11s %s\n", $$1, $$2 }'

.PHONY: deps
deps: ## install what the other targets need (Debian packages, tools under target/)
	@tests/scripts/deps.sh

.PHONY: build
build: ## the daemon, the command line (dev) and the PAM module (as it ships, built alone)
	cargo build --locked -p twinlock-gatewayd --bins
	RUSTFLAGS="$$RUSTFLAGS -C force-frame-pointers=yes" \
	cargo rustc --locked --profile module -p pam-twinlock --lib --crate-type cdylib --target-dir $(TARGET)/module

.PHONY: check
check: lint ## format, clippy, page types, documentation
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps --quiet

.PHONY: lint
lint: ## format and clippy, warnings denied; the page's types
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	@tests/scripts/page-check

.PHONY: test
test: deps build ## everything that is a test, end to end included (as root)
	@tests/scripts/page-check
	@tests/scripts/run-tests
	@tests/scripts/fuzz 10

.PHONY: e2e
e2e: deps build ## the end-to-end tests alone; one of them by NAME=part_of_its_name
	@tests/scripts/run-tests -p twinlock-tests $(NAME)

.PHONY: test-system
test-system: deps ## the packages on booted Debian 12 and 13 (as root); some suites by NAME="suite suite", RELEASES=bookworm
	@tests/system/run $(NAME)

.PHONY: demo
demo: deps build ## a whole elevation, seen; SHELL_ME=1, PHONES=real ORIGIN= TLS_CERT= TLS_KEY=, SUMMARY=file.json
	cargo build --locked -p twinlock-tests --bin twinlock-demo
	@$(TARGET)/debug/twinlock-demo

.PHONY: hostile
hostile: deps build ## a hostile gateway tries to become root: one line per attempt; some of them by NAME=word
	cargo build --locked -p twinlock-tests --bin twinlock-hostile
	@$(TARGET)/debug/twinlock-hostile $(NAME)

.PHONY: fuzz
fuzz: ## every decoder of outside bytes, FOR=seconds each (600); needs a nightly toolchain
	@tests/scripts/fuzz $(or $(FOR),600)

.PHONY: mutants
mutants: ## change the deciding code in hundreds of small ways: a test must notice each (half an hour)
	@tests/scripts/mutants $(NAME)

.PHONY: screens
screens: deps build ## every picture of terminal and page, into docs/screens
	cargo build --locked -p twinlock-tests --bin twinlock-screens
	@$(TARGET)/debug/twinlock-screens docs/screens

.PHONY: bench
bench: deps build ## what an elevation costs, with the floors that fail a build
	cargo test --locked -p twinlock-tests --test artifact
	cargo build --locked --release -p twinlock-gatewayd --bins
	cargo build --locked --release -p twinlock-tests --bin twinlock-bench
	@TWINLOCK_BIN_DIR="$(abspath $(TARGET))/release" $(TARGET)/release/twinlock-bench

.PHONY: catalogue
catalogue: ## attack id, its test, its positive control; fails when a control is missing
	@tests/scripts/catalogue
	@tests/scripts/past-attacks

.PHONY: packages
packages: package-deps ## debs and rpms into target/packages; PROFILE=dev for quick ones, VERSION=
	@packaging/scripts/packages

.PHONY: repro
repro: package-deps ## builds the packages in two folders and compares them bit for bit
	@packaging/scripts/repro

.PHONY: rpm-cycle
rpm-cycle: package-deps ## the rpms of target/packages installed, upgraded, refused and erased in a scratch root (as root)
	@packaging/scripts/rpm-cycle $(or $(OUT),$(TARGET)/packages)

.PHONY: check-units
check-units: ## how exposed the services are, with the bounds that fail a build
	@packaging/scripts/check-units

.PHONY: package-deps
package-deps: # what only packages need
	@tests/scripts/deps.sh packages
