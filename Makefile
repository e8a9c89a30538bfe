# The commands of this project. You need Rust, a C compiler, Node.js and make; everything else is
# installed below this folder.

CARGO_DENY := target/tools/bin/cargo-deny
CARGO_DENY_VERSION := 0.20.2
RIVALS := benches/side_by_side/rivals
SDK_EXAMPLE := examples/agent-sdk-typescript
CAPTURED := tests/fixtures/claude-code-2.1.197
NPM_CI := npm ci --no-audit --no-fund --loglevel=error
# The path of the executable that `cargo build` builds with the given flags. Only cargo knows it:
# CARGO_TARGET_DIR and cargo's configuration can move it.
executable = $$(cargo build --locked --quiet --message-format=json $(1) | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')

# Runs the comparison with the release executable. The first build is there for the compiler's
# errors, which `executable` would pass to sed as JSON.
SIDE_BY_SIDE = cargo build --locked --quiet --release && CONVEX_SIDECAR_BIN="$(call executable,--release)" cargo run --locked --release --package side-by-side --

.PHONY: demo test transcripts view-test client-test bench cost cross cross-windows fuzz lint format clean

# Records a captured session of the real client in a temporary home and shows it.
demo:
	cargo build --locked --quiet
	sh tests/demo.sh "$(executable)"

# All tests except those with the real client: the library, the executable, the Convex functions.
test: node_modules
	cargo test --locked --lib --test architecture --test binary --test transcripts
	npm test

# The properties of reading several sessions in any order, each with 10,000 random worlds. `make test`
# always runs the same 250, because these take twenty minutes.
transcripts:
	TRANSCRIPT_CASES=10000 cargo test --locked --test transcripts journal

# The page in a real browser: Debian's Chromium, or the one that CHROMIUM names. Pictures of it are
# in target/view.
view-test: node_modules
	cargo build --locked
	CONVEX_SIDECAR_BIN="$(executable)" npx vitest run --config tests/view/vitest.config.ts

# The real Claude Code, from npm, against a stand-in for the Messages API: the versions of
# tests/client/package.json, two side by side. CLIENT=2.1.x tries another one. Then both Agent SDKs,
# with the clients that they bundle. CLIENT_TEST_RUNS=50 repeats the failing runs more often. Last,
# it compares the table of prices with what the first client charges.
CLIENT ?= 2.1.332 2.1.197 2.1.100 2.0.50
# The clients that are tested with a hostile repository: 2.1.144 is the last one that does not set
# CLAUDECODE for hooks.
ATTACKED ?= 2.1.332 2.1.197 2.1.144 2.0.50
client-test: node_modules tests/client/node_modules $(SDK_EXAMPLE)/node_modules target/agent-sdk/installed
	npx tsc --noEmit --project $(SDK_EXAMPLE)
	for version in $(CLIENT); do \
		test -d tests/client/node_modules/claude-$$version || \
		npm install --no-audit --no-fund --loglevel=error --no-save \
			--prefix target/clients/$$version @anthropic-ai/claude-code@$$version || exit 1; \
	done
	cargo build --locked --release
	export CONVEX_SIDECAR_BIN="$${CONVEX_SIDECAR_BIN:-$(call executable,--release)}"; \
		printf '%s\n' $(CLIENT) | xargs -P 2 -I VERSION env CLIENT=VERSION \
		node --test --test-reporter=spec tests/client/client.test.mjs && \
		printf '%s\n' $(ATTACKED) | xargs -P 2 -I VERSION env CLIENT=VERSION \
		node --test --test-reporter=spec tests/client/repository.test.mjs && \
		for version in $(CLIENT); do \
			CLIENT=$$version node --test --test-reporter=spec tests/client/failing.test.mjs || exit 1; \
		done && \
		node --test --test-reporter=spec tests/client/sdk.test.mjs && \
		CLIENT=$(firstword $(CLIENT)) node --test --test-reporter=spec tests/client/prices.test.mjs

# Compares the cost with that of alternatives; writes docs/benchmarks.md and docs/cost.md.
# ONLY="hooks crowd" runs only those sections and writes nothing.
bench: node_modules target/rivals/npm/node_modules target/rivals/python/installed
	$(SIDE_BY_SIDE) $(ONLY)

# Counts what a hook costs (strace, valgrind) and fails if that exceeds docs/cost.md. With
# UPDATE_COST=1 it updates that file instead.
cost:
	$(SIDE_BY_SIDE) cost

# Builds the executable for other systems and runs their tests under Wine and qemu. Installs what it
# needs with apt-get. CROSS="x86_64-pc-windows-gnu" builds only for that target.
CROSS ?= x86_64-pc-windows-gnu aarch64-unknown-linux-gnu aarch64-apple-darwin x86_64-apple-darwin
cross: node_modules
	sh tests/cross/run.sh $(CROSS)

# The part of `cross` that CI runs: the unit tests under Wine, and the tests of the binary for what
# differs on Windows (processes, locks, files, crowds, the certificate check).
cross-windows: node_modules
	sh tests/cross/run.sh x86_64-pc-windows-gnu -- windows:: crowd:: killed:: disk:: doctor_rules:: hostile:: key::

# Fuzzes each parser for five minutes, starting from captured input. Needs a nightly toolchain and
# cargo-fuzz. The fuzz targets are in the workspace, so its release profile applies to them: with
# LTO the instrumentation for coverage does not link, a stripped executable's crash reports name no
# functions, and code that is built for size runs fewer cases.
fuzz: export CARGO_PROFILE_RELEASE_LTO := false
fuzz: export CARGO_PROFILE_RELEASE_STRIP := false
fuzz: export CARGO_PROFILE_RELEASE_OPT_LEVEL := 3
fuzz:
	mkdir -p fuzz/corpus/transcript fuzz/corpus/hook_input
	cd fuzz && nice cargo +nightly fuzz run transcript corpus/transcript ../$(CAPTURED) -- -max_total_time=300 -max_len=4096
	cd fuzz && nice cargo +nightly fuzz run hook_input corpus/hook_input ../$(CAPTURED) -- -max_total_time=300 -max_len=2048 -detect_leaks=0

lint: node_modules $(CARGO_DENY)
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO_DENY) --locked check licenses bans sources
	npm run --silent typecheck
	npm run --silent lint

format: node_modules
	cargo fmt --all
	npm run --silent format

node_modules: package-lock.json
	$(NPM_CI)
	touch $@

tests/client/node_modules: tests/client/package-lock.json
	cd tests/client && $(NPM_CI)
	touch $@

$(SDK_EXAMPLE)/node_modules: $(SDK_EXAMPLE)/package-lock.json
	cd $(@D) && $(NPM_CI)
	touch $@

target/agent-sdk/installed: examples/agent-sdk-python/requirements.txt
	@python3 -c 'import sys, venv; sys.exit(sys.version_info < (3, 10))' || \
		{ echo 'The Python Agent SDK needs python3, 3.10 or newer, with its module venv.' >&2; exit 1; }
	python3 -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	touch $@

# The alternatives that `make bench` measures. If one cannot be installed, its row says so, and the
# next run tries again.
target/rivals/npm/node_modules: $(RIVALS)/package.json $(RIVALS)/package-lock.json $(RIVALS)/deliver.js .npmrc
	mkdir -p $(@D)
	cp $^ $(@D)
	-cd $(@D) && $(NPM_CI) && chmod +x node_modules/@ccusage/*/bin/* && touch node_modules

target/rivals/python/installed: $(RIVALS)/requirements.txt
	-python3 -m venv $(@D) && $(@D)/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement $< && touch $@

# Built without optimization, because an optimized build takes longer than the run.
$(CARGO_DENY):
	CARGO_PROFILE_DEV_DEBUG=0 cargo install --locked --debug --root target/tools --version $(CARGO_DENY_VERSION) cargo-deny

# `cargo clean` removes cargo's target folder, which may not be `target`.
clean:
	cargo clean
	rm -rf target node_modules tests/client/node_modules $(SDK_EXAMPLE)/node_modules
