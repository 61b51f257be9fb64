# make test       what a change must pass; installs from Debian what it needs, or says what it skips
# make test-long  the same with the long histories: hundreds of kills and power cuts
# make lint       format, clippy, dependencies, alert rules, shell scripts
# make bench      benchmarks, beside nginx in the same run

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := test
.PHONY: test test-long lint bench setup-test

CARGO ?= cargo
SCRIPTS := .ci/run tests/setup.sh config/compose/retag.sh $(wildcard config/ci/*.sh)

TEST_PROGRAMS  := buildah ctr curl docker-compose docker-registry dockerd faketime ip jsonschema \
                  mkfs.ext4 mount nft podman promtool setpriv skopeo strace unshare xmllint
LINT_PROGRAMS  := promtool shellcheck
BENCH_PROGRAMS := docker-registry nginx wrk

setup-test:
	@tests/setup.sh $(TEST_PROGRAMS)

# nextest runs no documentation tests: they come first, so that the last line tells of all others.
test: setup-test
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
	    $(CARGO) test --locked --doc --quiet; \
	    $(CARGO) nextest run --locked; \
	else \
	    $(CARGO) test --locked; \
	fi

test-long: setup-test
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
	    IMMUTAG_TEST_LONG=1 $(CARGO) nextest run --locked --profile long; \
	else \
	    IMMUTAG_TEST_LONG=1 $(CARGO) test --locked; \
	fi

lint:
	@tests/setup.sh $(LINT_PROGRAMS)
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
	    $(CARGO) deny --locked check; \
	else \
	    echo "SKIPPED: cargo deny is not here (tests hold its bans all the same)"; \
	fi
	@if command -v promtool >/dev/null; then \
	    promtool check config config/prometheus/prometheus.yml; \
	    promtool test rules config/prometheus/alerts_test.yml; \
	else \
	    echo "SKIPPED: promtool is not here"; \
	fi
	@if command -v shellcheck >/dev/null; then \
	    shellcheck $(SCRIPTS) && echo "shellcheck: $(SCRIPTS)"; \
	else \
	    echo "SKIPPED: shellcheck is not here"; \
	fi
	@echo "lint: all clean"

bench:
	@tests/setup.sh $(BENCH_PROGRAMS)
	$(CARGO) bench --locked
