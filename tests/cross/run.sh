#!/bin/sh
# Builds for other systems, on Debian, and runs the tests for Windows under Wine and those for ARM under
# qemu. Executables for macOS are only linked, because nothing here can run them.
#
#   sh tests/cross/run.sh TARGET … [-- ARGUMENT …]
#
# The arguments after `--` go to the tests of the binary, for example their names. It needs Node and
# node_modules, and installs everything else, as root, from Debian's packages and PyPI. Debian's
# compiler comes with the source of the standard library, which cargo builds here for each target
# (`-Zbuild-std`); rustup would have only the standard library of this system.
set -eu

packages='rustc-web cargo-web rust-web-src'
targets=
while [ $# -gt 0 ]; do
	case $1 in
	--) shift; break ;;
	*-windows-*) packages="$packages gcc-mingw-w64-x86-64 wine wine64 libgnutls30" ;;
	aarch64-*-linux-*) packages="$packages gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user" ;;
	*-apple-*) packages="$packages llvm python3-venv" ;;
	*) echo "unknown target $1" >&2; exit 2 ;;
	esac
	targets="$targets $1"
	shift
done

# shellcheck disable=SC2086 # several packages
if dpkg-query --show --showformat '${db:Status-Status}\n' $packages 2>&1 | grep -qvx installed; then
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $packages > /dev/null
fi

cross=$PWD/target/cross
mkdir -p "$cross"
node=$(command -v node)
export PATH="/usr/bin:/bin" CARGO=/usr/bin/cargo RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
# Debug information and optimization would take more time than they save.
export CARGO_TARGET_DIR="$cross" CARGO_PROFILE_DEV_DEBUG=0
cargo='cargo --config profile.dev.package.convex-sidecar.opt-level=0'
build_std='--locked --quiet --no-fail-fast -Zbuild-std=std,panic_abort'

say() { printf '%s %s\n' "$(date +%T)" "$*"; }

# shellcheck disable=SC2086 # several flags
run_tests() {
	# The transcripts depend on no system, so they are left out where tests are named.
	units=--lib
	if [ $# -eq 0 ]; then units='--lib --test transcripts'; fi
	say 'build'
	$cargo test $build_std --target "$target" --no-run $units --test binary
	say 'unit tests'
	$cargo test $build_std --target "$target" $units < /dev/null
	say 'tests of the binary'
	$cargo test $build_std --target "$target" --test binary -- "$@" < /dev/null
}

windows() {
	export WINEPREFIX="$cross/wine" WINEDEBUG=-all LC_ALL=C.UTF-8
	wine=/usr/lib/wine/wine64 wineserver=/usr/lib/wine/wineserver64
	mkdir -p "$WINEPREFIX"
	# Each start of a program takes seconds if it also has to start the server.
	"$wineserver" -f -p > "$cross/wineserver.log" 2>&1 &
	"$node" --import tsx tests/cross/backends.ts > "$cross/backends" &
	backends=$!
	trap 'kill "$backends"; "$wineserver" -k' EXIT
	# The processes that the first program starts keep its output open, so the output goes to a file.
	"$wine" wineboot > "$cross/wineboot.log" 2>&1 < /dev/null
	x86_64-w64-mingw32-gcc -shared -o "$WINEPREFIX/drive_c/windows/system32/bcryptprimitives.dll" \
		tests/cross/process_prng.c -ladvapi32
	until grep -q : "$cross/backends"; do sleep 0.1; done
	TEST_BACKENDS=$(cat "$cross/backends")
	export TEST_BACKENDS CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER=$wine
	run_tests "$@"
	kill "$backends"
	"$wineserver" -k
	trap - EXIT
}

# Of the tests of the binary, only those that replay captured sessions run, because the emulator is
# slow. A hook's time limits hold there, too, so the executable is optimized.
arm() {
	cargo='cargo --config profile.dev.opt-level=2 --config profile.dev.package.convex-sidecar.opt-level=2'
	export TEST_EMULATOR='/usr/bin/qemu-aarch64 -L /usr/aarch64-linux-gnu'
	export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
	export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=$TEST_EMULATOR
	if [ $# -eq 0 ]; then set -- replay:: import::; fi
	run_tests "$@"
}

for target in $targets; do
	say "$target"
	case $target in
	*-windows-*) windows "$@" ;;
	aarch64-*-linux-*) arm "$@" ;;
	*-apple-*) sh tests/cross/macos.sh "$target" "$cross" ;;
	esac
done
say "done"
