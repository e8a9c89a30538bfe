#!/usr/bin/env bash
# The steps of a release, one function each. .github/workflows/release.yml defines which of them run
# where; tests/binary/release.rs and tests/schemas/release.test.ts run those that need no other system.
#
# usage: packaging/release.sh STEP [ARGUMENT…], in the root of the repository
set -euo pipefail

toolchain=1.91.1
export CC_x86_64_unknown_linux_musl=musl-gcc CC_aarch64_unknown_linux_musl=musl-gcc
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)

fail() {
  echo "release.sh: $1" >&2
  exit 1
}

# check_tag TAG: checks that the tag matches the version.
check_tag() {
  test "$1" = "v$version" || fail "the tag $1 is not v$version, the version in Cargo.toml"
}

# Looks for advisories on the crates and the npm packages, and checks the signatures of the npm
# packages.
check_packages() {
  make target/tools/bin/cargo-deny
  target/tools/bin/cargo-deny --locked check advisories licenses bans sources
  for folder in deployment .; do
    npm ci --ignore-scripts --no-fund --prefix "$folder"
    npm audit --audit-level=high --prefix "$folder"
    npm audit signatures --prefix "$folder"
  done
}

# Writes the digests of the images that `setup` starts to IMAGES, and checks that no tag was moved since
# the last release.
check_images() {
  : > IMAGES
  : > IMAGES.before
  if [ -n "$(gh release list --repo "$GITHUB_REPOSITORY" --limit 1)" ]; then
    gh release download --repo "$GITHUB_REPOSITORY" --pattern IMAGES --output IMAGES.before --clobber
  fi
  local image digest before
  for image in $(docker compose config --images | sort --unique); do
    digest=$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$image")
    echo "$image@$digest" >> IMAGES
    before=$(grep --fixed-strings "$image@" IMAGES.before || true)
    if [ "${before:-$image@$digest}" != "$image@$digest" ]; then
      fail "$image was moved: $before in the last release, $digest now"
    fi
  done
  test -s IMAGES || fail "the compose file names no images"
}

# build TARGET: builds the executable, on the target system.
build() {
  local TARGET=$1
  if [[ $TARGET == *-linux-musl ]]; then
    sudo apt-get update
    sudo apt-get install --yes musl-tools
  fi
  rustup toolchain install "$toolchain" --profile minimal --target "$TARGET"
  cargo +"$toolchain" build --locked --release --target "$TARGET"
  check_executable "$TARGET"
}

# run_tests TARGET: runs the tests, on the target system. They start the Convex functions in
# Node.js.
run_tests() {
  local TARGET=$1
  npm ci --ignore-scripts --no-audit --no-fund
  cargo +"$toolchain" test --locked --target "$TARGET" --lib --test architecture --test binary --test transcripts
}

# check_executable TARGET: checks that the executable starts, and needs nothing that a system may
# lack.
check_executable() {
  local program="target/$1/release/convex-sidecar"
  test "$("$program" --version)" = "convex-sidecar $version" || fail "$program is not version $version"
  if [ -e "$program.exe" ] && grep --quiet --ignore-case --text 'vcruntime[0-9]*\.dll' "$program.exe"; then
    fail "$program.exe needs the C runtime of Visual C++"
  fi
}

# Builds the image, and starts it.
image() {
  docker build --tag convex-sidecar .
  docker run --rm convex-sidecar --version
}

# pack TARGET: puts the executable into an archive, with the license and the manual page.
pack() {
  local name="convex-sidecar-$1"
  rm -rf "$name"
  mkdir "$name"
  cp target/"$1"/release/convex-sidecar* LICENSE README.md docs/convex-sidecar.1 "$name"/
  rm -f "$name"/*.d "$name"/*.pdb
  # The tar of macOS would add an entry `._NAME` with the attributes of each file.
  COPYFILE_DISABLE=1 tar --no-xattrs -czf "$name.tar.gz" "$name"
}

# collect [TARGET…]: creates everything else of a release from the archives in this folder: their
# checksums, the packages for npm, the Homebrew formula and the Scoop manifest.
collect() {
  sha256sum convex-sidecar-*.tar.gz > SHA256SUMS
  node npm/pack.js . packages "$@"
  local file
  for file in HomebrewFormula/convex-sidecar.rb bucket/convex-sidecar.json; do
    name_archives "$file" > filled
    cat filled > "$file"
    rm filled
  done
}

# name_archives FILE: prints the file with this version, and with the checksum of each archive on
# the line after its address.
name_archives() {
  awk -v version="$version" '
    NR == FNR { checksums[$2] = $1; next }
    $1 ~ /^"?version"?:?$/ { sub(/"[0-9][^"]*"/, "\"" version "\"") }
    { sub(/\/download\/v[^\/]+\//, "/download/v" version "/") }
    match($0, /convex-sidecar-[a-z0-9_-]+\.tar\.gz/) { archive = substr($0, RSTART, RLENGTH) }
    $1 ~ /^(sha256|"hash":)$/ {
      if (!(archive in checksums)) { print FILENAME ": no archive " archive > "/dev/stderr"; exit 1 }
      sub(/"[0-9a-f]+"/, "\"" checksums[archive] "\"")
    }
    { print }
  ' SHA256SUMS "$1"
}

# publish TAG: creates the release, publishes the packages, and puts the formula and the manifest
# into the default branch, where Homebrew and Scoop read them. A version such as 1.2.3-rc.1 is a
# prerelease, which users have to request.
publish() {
  local package main="./packages/convex-sidecar-$version.tgz" tag=latest kind=--latest
  case $version in *-*) tag=next kind=--prerelease ;; esac
  gh release create "$1" --repo "$GITHUB_REPOSITORY" --verify-tag --generate-notes "$kind" \
    convex-sidecar-*.tar.gz SHA256SUMS IMAGES
  # The packages of the systems, then the one that depends on them.
  for package in ./packages/*.tgz; do
    test "$package" = "$main" || npm publish --provenance --access public --tag "$tag" "$package"
  done
  npm publish --provenance --access public --tag "$tag" "$main"
  if [ "$tag" = latest ]; then
    commit HomebrewFormula/convex-sidecar.rb
    commit bucket/convex-sidecar.json
  fi
}

# commit FILE: replaces a file in the default branch.
commit() {
  local url="repos/$GITHUB_REPOSITORY/contents/$1"
  gh api --silent --method PUT "$url" --raw-field message="Name the archives of version $version in $1" \
    --raw-field content="$(base64 --wrap=0 "$1")" --raw-field sha="$(gh api "$url" --jq .sha)"
}

"$@"
