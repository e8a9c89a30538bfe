# Installs the archives of a release with Homebrew; this repository is its own tap. A release writes
# its version and the checksums of its archives here (packaging/release.sh).
class ConvexSidecar < Formula
  desc "Records Claude Code and Agent SDK sessions in your own Convex database"
  homepage "https://github.com/convex-sidecar/convex-sidecar"
  version "0.1.0"
  license "MIT"

  on_macos do
    on_arm do
      url "https://github.com/convex-sidecar/convex-sidecar/releases/download/v0.1.0/convex-sidecar-aarch64-apple-darwin.tar.gz"
      sha256 "0000000000000000000000000000000000000000000000000000000000000000"
    end
    on_intel do
      url "https://github.com/convex-sidecar/convex-sidecar/releases/download/v0.1.0/convex-sidecar-x86_64-apple-darwin.tar.gz"
      sha256 "0000000000000000000000000000000000000000000000000000000000000000"
    end
  end

  on_linux do
    on_arm do
      url "https://github.com/convex-sidecar/convex-sidecar/releases/download/v0.1.0/convex-sidecar-aarch64-unknown-linux-musl.tar.gz"
      sha256 "0000000000000000000000000000000000000000000000000000000000000000"
    end
    on_intel do
      url "https://github.com/convex-sidecar/convex-sidecar/releases/download/v0.1.0/convex-sidecar-x86_64-unknown-linux-musl.tar.gz"
      sha256 "0000000000000000000000000000000000000000000000000000000000000000"
    end
  end

  def install
    bin.install "convex-sidecar"
    man1.install "convex-sidecar.1"
    generate_completions_from_executable(bin/"convex-sidecar", "completions")
  end

  def caveats
    "Run `convex-sidecar setup` for a Convex backend and the hooks, or `convex-sidecar install` for the hooks alone."
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/convex-sidecar --version")
  end
end
