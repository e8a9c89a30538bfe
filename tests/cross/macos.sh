#!/bin/sh
# Links the executable for a target of macOS with zig. Its SDK has no frameworks, so the executable is
# linked once to find out which of their symbols it needs, and then with stubs that have these. The
# result shows that everything compiles and links; it is not for releases.
set -eu
target=$1
cross=$2

venv=$cross/zig
if ! test -x "$venv/bin/cargo-zigbuild"; then
	python3 -m venv "$venv"
	"$venv/bin/pip" install --quiet --disable-pip-version-check ziglang==0.17.1 cargo-zigbuild==0.24.1
fi
ln -sf /usr/bin/llvm-objcopy "$venv/bin/rust-objcopy"
export PATH="$venv/bin:$PATH" CARGO=/usr/bin/cargo
frameworks=$cross/frameworks
link() {
	cargo-zigbuild rustc --locked -Zbuild-std=std,panic_abort --target "$target" \
		--bin convex-sidecar -- "-Lframework=$frameworks" 2> "$cross/$target.log"
}
mkdir -p "$frameworks"
python3 tests/cross/macos_stubs.py "$frameworks"
if ! link; then
	python3 tests/cross/macos_stubs.py "$frameworks" "$cross/$target.log"
	link || { cat "$cross/$target.log" >&2; exit 1; }
fi
