# The developer's entry points. `make demo` and `make test` work from a fresh clone on Debian 12.

CARGO  ?= cargo
PREFIX ?= /usr
TARGET := $(or $(CARGO_TARGET_DIR),target)
BINARIES := fastsst wsrep_sst_fastsst

# rustup puts cargo where a non-login shell may not look.
export PATH := $(HOME)/.cargo/bin:$(PATH)

# The protocol is built for a target without an operating system; where that target's core library
# is not installed, for this machine, but still without std.
BARE := x86_64-unknown-none
bare_target = $$(d=$$(rustc --print target-libdir --target $(BARE) 2>/dev/null) && [ -d "$$d" ] \
	&& echo $(BARE) || rustc -vV | sed -n 's/^host: //p')

.PHONY: demo test crash mtr trixie test-11.8 test-deb bench bench-micro build deb bare lint fmt deps \
	install clean

# A second node joins a cluster by fastsst, then by rsync: one table.
demo: build
	FASTSST_BIN_DIR="$(abspath $(TARGET))/release" \
	$(CARGO) run --locked --release --quiet -p fastsst-tests --bin fastsst-demo

# Everything a change must pass. Ends with the summary of the tests on real servers.
test: deps
	$(MAKE) bare lint build
	$(CARGO) test --locked --release --workspace --doc
	$(MAKE) trixie
	FASTSST_BIN_DIR="$(abspath $(TARGET))/release" \
	$(CARGO) test --locked --release -p fastsst-tests --test systems mariadb_11_8::an_empty_node
	FASTSST_BIN_DIR="$(abspath $(TARGET))/release" \
	$(CARGO) test --locked --release --workspace --lib --bins --tests -- --test-threads=2

# Power failures: every disk that one may leave, instead of the sample in `make test`. Needs root.
crash: build
	FASTSST_BIN_DIR="$(abspath $(TARGET))/release" FASTSST_CRASH_IMAGES=all \
	$(CARGO) test --locked --release -p fastsst-tests --test it crash_images -- --test-threads=2

# MariaDB's own tests of the rsync method, with fastsst in its place; METHOD=rsync is the control.
# TESTS="galera.galera_sst_rsync2" chooses, REPEAT=1 is quicker.
METHOD ?= fastsst
REPEAT ?= 3
mtr: build
	REPEAT="$(REPEAT)" bash .ci/mtr "$(METHOD)" "$(TARGET)/release" "$(TARGET)/mtr-logs" $(TESTS)

# Debian 13 with MariaDB 11.8 in a directory, once; needs root, and the network the first time.
trixie: deps
	@bash .ci/trixie "$(TARGET)/trixie"

# MariaDB 11.8, alone and beside this machine's server; one of these is in `make test`. Needs root.
test-11.8: build trixie
	FASTSST_BIN_DIR="$(abspath $(TARGET))/release" \
	$(CARGO) test --locked --release -p fastsst-tests --test systems mariadb_11_8 -- --test-threads=2

# The Debian package: what lintian says of it where that is installed (but for Debian's own addresses
# and bug numbers); then it is installed on this machine, a node joins with it, and it is purged. Root.
test-deb: deb
	! command -v lintian >/dev/null || lintian --fail-on error,warning --suppress-tags \
		bogus-mail-host,bogus-mail-host-in-debian-changelog,initial-upload-closes-no-bugs "$(TARGET)/$(DEB)"
	FASTSST_DEB="$(abspath $(TARGET))/$(DEB)" FASTSST_BIN_DIR="$(abspath $(TARGET))/release" \
	$(CARGO) test --locked --release -p fastsst-tests --test systems package -- --test-threads=1

# fastsst beside its rivals, as docs/BENCHMARKS.md describes; tables, figures and charts go to
# docs/bench. Another choice: BENCH="--mib 512 --runs 3 --dir /srv --scenario datadir"
BENCH ?= --dir "$(TARGET)" --out docs/bench
bench: build
	@bash .ci/bench-deps "$(TARGET)/bench-tools"
	$(CARGO) run --locked --release --quiet -p fastsst-benches -- \
		--fastsst "$(abspath $(TARGET))/release/fastsst" \
		--syq "$(abspath $(TARGET))/bench-tools/bin/syq" $(BENCH)

# What hashing, compressing and framing cost by themselves; less than a minute.
bench-micro: deps
	$(CARGO) bench --locked --quiet -p fastsst-benches --bench micro

# The programs, and what is installed beside them: manual pages and completions.
build: deps
	$(CARGO) build --locked --release -p fastsst-mover -p fastsst-sst-shim --bins
	"$(TARGET)/release/wsrep_sst_fastsst" --help | \
	$(CARGO) run --locked --release --quiet -p fastsst-mover --example manual -- "$(TARGET)/release/manual"
	gzip -9nf "$(TARGET)"/release/manual/man?/*.[18]
	gzip -9nc CHANGELOG.md >"$(TARGET)/release/manual/changelog.gz"

# A Debian package with all of that: target/fastsst.deb.
DEB := fastsst.deb
CARGO_DEB := $(TARGET)/tools/bin/cargo-deb
deb: build $(CARGO_DEB)
	"$(CARGO_DEB)" --locked --no-build --quiet -p fastsst-sst-shim --output "$(TARGET)/$(DEB)"

$(CARGO_DEB):
	$(CARGO) install --quiet --locked --root "$(TARGET)/tools" --version '~3.6' cargo-deb

bare: deps
	$(CARGO) build --manifest-path proto/bare/Cargo.toml --target "$(bare_target)" --target-dir "$(TARGET)/bare"

lint: deps
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --release --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --release --workspace --no-deps --quiet

fmt:
	$(CARGO) fmt --all

# Debian packages that are missing; does nothing, and needs no network, when all are there.
deps:
	@bash .ci/deps

DIRECTORIES := bin share/man/man1 share/man/man8 share/doc/fastsst share/bash-completion/completions \
	share/zsh/vendor-completions share/fish/vendor_completions.d

# Does not build, so that root need not: `make build && sudo make install`.
install:
	@for name in $(BINARIES); do [ -x "$(TARGET)/release/$$name" ] || { echo "run 'make build' first" >&2; exit 1; }; done
	install -d $(DIRECTORIES:%="$(DESTDIR)$(PREFIX)/%")
	install -m 755 $(BINARIES:%="$(TARGET)/release/%") "$(DESTDIR)$(PREFIX)/bin"
	install -m 644 "$(TARGET)"/release/manual/man1/*.gz "$(DESTDIR)$(PREFIX)/share/man/man1"
	install -m 644 "$(TARGET)"/release/manual/man8/*.gz "$(DESTDIR)$(PREFIX)/share/man/man8"
	install -m 644 README.md CHANGELOG.md LICENSE-* docs/*.md "$(DESTDIR)$(PREFIX)/share/doc/fastsst"
	install -m 644 "$(TARGET)/release/manual/completions/fastsst.bash" \
		"$(DESTDIR)$(PREFIX)/share/bash-completion/completions/fastsst"
	install -m 644 "$(TARGET)/release/manual/completions/_fastsst" \
		"$(DESTDIR)$(PREFIX)/share/zsh/vendor-completions"
	install -m 644 "$(TARGET)/release/manual/completions/fastsst.fish" \
		"$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d"

clean:
	$(CARGO) clean
