# One command for each thing a developer does; `make help` lists them.
#
# Python only ever runs in virtual environments made here, and it runs the wheel that users get:
# a release build, the same one for demo, tests and benchmarks. Stamp files keep repeats quick; one
# is made again when something it depends on is newer.
#
#   dist/.built            the wheel in dist/ was built from the present sources
#   VENV/.stamp-python     the environment VENV exists
#   VENV/.stamp-GROUP      it has the dependency group GROUP of pyproject.toml
#   VENV/.stamp-wheel      it has the present wheel
#
# VENV is `.venv` for PYTHON and `.venv-3.12` for another Python, which gets the same abi3 wheel.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Two pips in one environment would fight, and cargo is parallel by itself; only the tests of several Pythons, whose
# environments are ready, run beside each other.
ifndef BESIDE_EACH_OTHER
.NOTPARALLEL:
endif
.SECONDARY:   # keep stamps that only a pattern rule mentions

# Read when `.venv` is made; remove `.venv` to choose another.
ifndef PYTHON
PYTHON := $(shell .ci/find-python 3.11 3 3.12 3.13 3.14)
endif
OTHER_PYTHONS ?= 3.12 3.13
CARGO ?= cargo
CARGO_FLAGS ?=
PYTEST_ARGS ?=
RUN_ARGS ?=
BENCH_ARGS ?=
CONFORMANCE_ARGS ?= --control
SOAK_LIMIT ?= 15m
FUZZ_SECONDS ?= 300

BIN := .venv/bin
# Folders count too: their time changes when a file is added or removed.
SOURCES := Cargo.toml Cargo.lock pyproject.toml README.md LICENSE-MIT LICENSE-APACHE \
    $(shell find crates python -name __pycache__ -prune -o \( -type d -o -name '*.rs' \
        -o -name '*.py' -o -name '*.pyi' -o -name '*.toml' -o -name py.typed \) -print)

unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV
export PIP_DISABLE_PIP_VERSION_CHECK := 1

heading = @printf '\n== %s\n' $(1)

##@ Use

.PHONY: run
run: .venv/.stamp-wheel .venv/.stamp-demo ## run the demo; RUN_ARGS are passed on
	$(call heading,'demo')
	$(BIN)/python examples/photos.py $(RUN_ARGS)

.PHONY: wheel
wheel: dist/.built ## build the release wheel into dist/
	@ls dist/*.whl

##@ Test

.PHONY: test
test: test-rust test-pythons ## run every test but the soak tests

# Each Python's output comes in one piece when its tests are over.
.PHONY: test-pythons
test-pythons: .venv/.stamp-wheel .venv/.stamp-test .venv/.stamp-demo
	@for version in $(OTHER_PYTHONS); do \
	    ! .ci/find-python $$version >/dev/null \
	        || $(MAKE) --no-print-directory .venv-$$version/.stamp-wheel .venv-$$version/.stamp-test; \
	done
	@printf '\n== tests on every Python that is here, beside each other: some minutes\n'
	@$(MAKE) --no-print-directory --jobs --output-sync=recurse BESIDE_EACH_OTHER=yes test-kills test-rest test-others
	@printf '\n== pytest on %s: what is measured alone\n' "$$($(BIN)/python --version)"
	$(BIN)/pytest -m 'alone and not soak' $(PYTEST_ARGS)

.PHONY: test-rust
test-rust: ## run the tests of the Rust crates (manycore-python has none)
	$(call heading,'cargo test')
	$(CARGO) test $(CARGO_FLAGS)

.PHONY: test-python
test-python: .venv/.stamp-wheel .venv/.stamp-test .venv/.stamp-demo ## run the Python tests; PYTEST_ARGS are passed on
	@printf '\n== pytest on %s: all tests\n' "$$($(BIN)/python --version)"
	$(BIN)/pytest $(PYTEST_ARGS)

# The same in two halves, but for what is measured alone.
.PHONY: test-kills test-rest
test-kills:
	@printf '\n== pytest on %s: tests of kills\n' "$$($(BIN)/python --version)"
	$(BIN)/pytest -m 'not soak and not alone' $(PYTEST_ARGS) tests/kill

test-rest:
	@printf '\n== pytest on %s: all other tests\n' "$$($(BIN)/python --version)"
	$(BIN)/pytest -m 'not soak and not alone' $(PYTEST_ARGS) --ignore=tests/kill

# Every kernel feature that has a fallback counts as missing.
.PHONY: test-denied
test-denied: .venv/.stamp-wheel .venv/.stamp-test ## run the Rust and the quick Python tests without newer kernel features
	$(call heading,'cargo test without newer kernel features')
	MANYCORE_DENY=all $(CARGO) test $(CARGO_FLAGS)
	$(call heading,'pytest without newer kernel features')
	MANYCORE_DENY=all $(BIN)/pytest -m 'not slow and not soak' $(PYTEST_ARGS)

.PHONY: test-others
test-others: $(OTHER_PYTHONS:%=test-python-%) ## run the quick Python tests on each of OTHER_PYTHONS

# The rule is its own so that an absent Python skips its part instead of failing the whole.
.PHONY: $(OTHER_PYTHONS:%=test-python-%)
$(OTHER_PYTHONS:%=test-python-%): test-python-%:
	@if .ci/find-python $* >/dev/null; then \
	    $(MAKE) --no-print-directory .venv-$*/run-quick-tests; \
	else \
	    printf '\nSKIPPED: Python %s was not found on PATH or in pyenv; its tests did not run\n' $*; \
	fi

%/run-quick-tests: %/.stamp-wheel %/.stamp-test
	@printf '\n== pytest on %s: quick tests\n' "$$($*/bin/python --version)"
	$*/bin/pytest -m 'not slow and not soak and not engine' $(PYTEST_ARGS)

# CPython's tests come with the interpreter; one that has none of them is skipped.
.PHONY: conformance
conformance: .venv/.stamp-wheel ## run CPython's own tests of multiprocessing on ours; CONFORMANCE_ARGS are passed on
	@for version in $(OTHER_PYTHONS); do \
	    ! .ci/find-python $$version >/dev/null \
	        || $(MAKE) --no-print-directory .venv-$$version/.stamp-wheel; \
	done
	$(call heading,'conformance')
	$(BIN)/python conformance/run.py $(CONFORMANCE_ARGS) --python $(BIN)/python \
	    $$(for version in $(OTHER_PYTHONS); do \
	        [[ ! -x .venv-$$version/bin/python ]] || printf -- '--python .venv-%s/bin/python ' $$version; \
	    done)

# Other people's packages on ours; the main Python only.
.PHONY: test-clients
test-clients: .venv/.stamp-wheel .venv/.stamp-test .venv/.stamp-clients ## run joblib, scikit-learn and others on manycore; PYTEST_ARGS are passed on
	@printf '\n== pytest on %s: other packages\n' "$$($(BIN)/python --version)"
	$(BIN)/pytest tests/clients $(PYTEST_ARGS)
	@$(BIN)/python -c 'import torch' 2>/dev/null \
	    || printf "SKIPPED: PyTorch is not in .venv, being too large; its DataLoader was not tried\n"
	@command -v tesseract >/dev/null \
	    || printf "SKIPPED: Tesseract is not installed (tesseract-ocr); the example that reads pages was not run\n"
	@command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null \
	    || printf "SKIPPED: PostgreSQL is not installed; the example that writes to a server was not run\n"

# SIGABRT makes pytest's fault handler print every stack; the engine's soak tests say themselves what
# everybody was doing when nothing has moved for a while.
soak_limit = timeout --foreground --signal=ABRT --kill-after=30s $(SOAK_LIMIT)

.PHONY: soak soak-deaths soak-rust soak-python
soak: soak-deaths soak-rust soak-python ## run the soak tests, each part for SOAK_LIMIT (15m; the deaths 45m, Python 30m) at most

# The longest of its tests takes more than 15 minutes of one core.
soak-deaths: SOAK_LIMIT = 45m
soak-deaths: ## kill a process at every store of every operation, and a second one at every store of the repair
	$(call heading,'all pairs of deaths')
	MANYCORE_ALL_DEATHS=1 $(CARGO) test $(CARGO_FLAGS) -p manycore-ipc --lib exhaustive::whatever_two \
	    --config "target.'cfg(unix)'.runner = '$(soak_limit)'"

soak-rust: ## run the soak tests of the engine
	$(call heading,'soak tests of the engine')
	ulimit -S -c 0; MANYCORE_SOAK=long $(CARGO) test $(CARGO_FLAGS) --test soak \
	    --config "target.'cfg(unix)'.runner = '$(soak_limit)'"

soak-python: SOAK_LIMIT = 30m
soak-python: .venv/.stamp-wheel .venv/.stamp-test ## run the soak tests in Python
	$(call heading,'soak tests in Python')
	ulimit -S -c 0; $(soak_limit) $(BIN)/pytest -m soak $(PYTEST_ARGS)

# Without sanitizers, which stable Rust does not have; debug assertions and overflow checks are on. What is
# new goes into fuzz/corpus, a case that fails into fuzz/artifacts: once it is mended, keep it in `scribbles`.
.PHONY: fuzz
fuzz: .tools/bin/cargo-fuzz ## look for shared bytes that are too much for the engine, FUZZ_SECONDS (300) long
	$(call heading,'cargo fuzz')
	@mkdir -p fuzz/corpus/scribble
	PATH='$(CURDIR)/.tools/bin':$$PATH $(CARGO) fuzz run --sanitizer none scribble \
	    fuzz/corpus/scribble crates/manycore-ipc/scribbles -- \
	    -max_total_time=$(FUZZ_SECONDS) -max_len=400 -timeout=20 -rss_limit_mb=1024

.tools/bin/cargo-fuzz:
	$(call heading,'cargo-fuzz')
	@$(CARGO) install --quiet --locked --root .tools cargo-fuzz \
	    || { printf 'FAILED: cargo-fuzz cannot be installed here, so nothing is fuzzed; it needs a C++ compiler and crates.io\n' >&2; exit 1; }

.PHONY: bench
bench: .venv/.stamp-wheel .venv/.stamp-bench ## measure against the standard library; BENCH_ARGS are passed on
	$(call heading,'benchmarks')
	@$(BIN)/python -m pip install --quiet --group rivals \
	    || printf 'SKIPPED: other packages cannot be installed here, so nothing is measured beside them\n'
	$(BIN)/python benches/run.py $(BENCH_ARGS)

##@ Check

.PHONY: check
check: check-rust check-python check-deny check-models ## run every check that is not a test

# One target for each tool, so that `make --keep-going check` reports what every one of them finds.
.PHONY: check-rust check-rustfmt check-clippy check-rustdoc
check-rust: check-rustfmt check-clippy check-rustdoc ## rustfmt, clippy and rustdoc

check-rustfmt:
	$(call heading,'rustfmt')
	$(CARGO) fmt --all --check

check-clippy: .venv/.stamp-python
	$(call heading,'clippy')
	PYO3_PYTHON=$(CURDIR)/$(BIN)/python \
	    $(CARGO) clippy $(CARGO_FLAGS) --workspace --all-targets -- -D warnings

check-rustdoc:
	$(call heading,'rustdoc')
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc $(CARGO_FLAGS) --no-deps

.PHONY: check-python check-ruff check-mypy check-stubs check-names
check-python: check-ruff check-mypy check-stubs check-names ## ruff, mypy, stubtest of manycore._engine, docs/names.md

check-ruff: .venv/.stamp-lint
	$(call heading,'ruff')
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

check-mypy: .venv/.stamp-lint
	$(call heading,'mypy')
	$(BIN)/mypy

check-stubs: .venv/.stamp-wheel .venv/.stamp-lint
	$(call heading,'stubtest')
	$(BIN)/stubtest --mypy-config-file pyproject.toml manycore._engine

check-names: .venv/.stamp-wheel
	$(call heading,'names')
	$(BIN)/python conformance/names.py --check

# The engine's own code, run by loom in every order of its threads' steps.
.PHONY: check-models
check-models: ## explore the models of locks, rings, blocks, objects, registry and waiting
	$(call heading,'models')
	$(CARGO) test $(CARGO_FLAGS) -p manycore-ipc --lib -- --ignored models::

.PHONY: check-deny
check-deny: ## licences, advisories and banned crates, if cargo-deny is installed
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
	    printf '\n== cargo deny\n'; \
	    $(CARGO) deny check; \
	else \
	    printf '\nSKIPPED: cargo-deny is not installed; `cargo install --locked cargo-deny`\n'; \
	fi

.PHONY: format
format: .venv/.stamp-lint ## format Rust and Python, mend what ruff can
	$(CARGO) fmt --all
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: names
names: .venv/.stamp-wheel ## write docs/names.md: each name of multiprocessing, and whose it is
	$(BIN)/python conformance/names.py --write

##@ Other

.PHONY: clean
clean: ## remove everything that was built, the environments too
	rm -rf .venv .venv-* dist .tools fuzz/target .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find python tests benches examples -name __pycache__ -prune -exec rm -rf {} +
	$(CARGO) clean

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' \
	    '/^##@ / { printf "\n%s\n", substr($$0, 5) } \
	     /^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

.PHONY: print-python
print-python:
	@echo '$(PYTHON)'

# ---- how the files are made ----------------------------------------------------------------------

# pip reads dependency groups since 25.1.
%/.stamp-python:
	@python='$(if $(filter .venv,$*),$(PYTHON),$(shell .ci/find-python $(*:.venv-%=%)))'; \
	fail() { printf 'manycore: %s\n' "$$1" >&2; exit 1; }; \
	[[ $$python ]] || fail 'no Python 3.11 or newer was found; install one, or set PYTHON to its path'; \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || fail "$$python is not a Python 3.11 or newer; set PYTHON to the path of one"; \
	"$$python" -c 'import ensurepip, venv' 2>/dev/null \
	    || fail "$$python has no venv module; on Debian or Ubuntu install python3-venv"; \
	printf '\n== %s: %s\n' '$*' "$$("$$python" --version)"; \
	"$$python" -m venv --clear '$*'
	$*/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

# Make has no pattern with two `%`, so each group gets its rule.
define group_rule
%/.stamp-$(1): %/.stamp-python pyproject.toml
	$$*/bin/python -m pip install --quiet --group $(1)
	@touch $$@
endef
$(foreach group,build test lint demo bench clients,$(eval $(call group_rule,$(group))))

# pip keeps an installed wheel of the same version, so the old one goes first.
%/.stamp-wheel: dist/.built %/.stamp-python
	$*/bin/python -m pip uninstall --quiet --yes manycore 2>/dev/null
	$*/bin/python -m pip install --quiet dist/*.whl
	@touch $@

# The stamp bears the time at which the build began: a source edited meanwhile is newer.
dist/.built: $(SOURCES) | .venv/.stamp-build
	$(call heading,'release wheel')
	@command -v $(CARGO) >/dev/null \
	    || { echo 'manycore: cargo was not found; install Rust 1.87 or newer' >&2; exit 1; }
	@mkdir -p dist && touch dist/.begun && rm -f dist/*.whl
	PYO3_PYTHON=$(CURDIR)/$(BIN)/python $(BIN)/maturin build --release $(CARGO_FLAGS) --out dist
	@mv dist/.begun $@
