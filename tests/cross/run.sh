#!/bin/sh
# Builds the executable for other systems, on Debian, and runs the tests of Windows under Wine and
# those of ARM under qemu. Executables for macOS are only linked: nothing here can run them.
#
#   sh tests/cross/run.sh TARGET … [-- ARGUMENT …]
#
# The arguments after `--` go to the tests. It installs what it needs, as root, from Debian's packages
# and PyPI. Debian's compiler comes with the source of the standard library, which cargo builds here
# for each target (`-Zbuild-std`): the one of rustup brings it for its own system only.
set -eu

packages='rustc-web cargo-web rust-web-src'
targets=
while [ $# -gt 0 ]; do
	case $1 in
	--) shift; break ;;
	*-windows-*) packages="$packages gcc-mingw-w64-x86-64 wine wine64" ;;
	aarch64-*-linux-*) packages="$packages gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user" ;;
	*-apple-*) packages="$packages llvm python3-venv" ;;
	*) echo "unknown target $1" >&2; exit 2 ;;
	esac
	targets="$targets $1"
	shift
done

# shellcheck disable=SC2086 # several packages
if ! dpkg-query --show $packages > /dev/null 2>&1; then
	apt-get update --quiet=2
	DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends $packages
fi

cross=$PWD/target/cross
mkdir -p "$cross"
export PATH=/usr/bin:/bin RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
# Without debug information the standard library builds and links in less time.
export CARGO_TARGET_DIR="$cross" CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0
build_std='--locked -Zbuild-std=std,panic_abort'
tests='--lib --test binary --test transcripts'

# shellcheck disable=SC2086 # several flags
windows() {
	export WINEPREFIX="$cross/wine" WINEDEBUG=-all LC_ALL=C.UTF-8
	test -d "$WINEPREFIX/drive_c/windows/system32" || /usr/lib/wine/wine64 wineboot --init > "$cross/wineboot.log" 2>&1
	x86_64-w64-mingw32-gcc -shared -o "$WINEPREFIX/drive_c/windows/system32/bcryptprimitives.dll" \
		tests/cross/process_prng.c -ladvapi32
	# Each start of an executable takes seconds if it has to start the server, too.
	wineserver=/usr/lib/wine/wineserver64
	"$wineserver" -f -p > "$cross/wineserver.log" 2>&1 &
	server=$!
	trap 'kill "$server"' EXIT
	CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER=/usr/lib/wine/wine64 \
		cargo test $build_std --target "$target" $tests -- "$@"
	kill "$server"
	trap - EXIT
}

# shellcheck disable=SC2086 # several flags
arm() {
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
		CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER='qemu-aarch64 -L /usr/aarch64-linux-gnu' \
		cargo test $build_std --target "$target" $tests -- "$@"
}

for target in $targets; do
	case $target in
	*-windows-*) windows "$@" ;;
	aarch64-*-linux-*) arm "$@" ;;
	*-apple-*) sh tests/cross/macos.sh "$target" "$cross" ;;
	esac
done
