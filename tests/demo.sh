#!/bin/sh
# Usage: demo.sh EXECUTABLE. Sends the hooks of a captured session of the real client to `hook`, and
# shows the result from the journal in a temporary home. Needs no server.
set -eu
sidecar=$(realpath "$1")
capture=$(dirname "$(realpath "$0")")/fixtures/claude-code-2.1.197/print-mode
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
export CONVEX_SIDECAR_HOME="$home/sidecar"
unset CLAUDECODE CONVEX_SELF_HOSTED_URL CONVEX_SELF_HOSTED_ADMIN_KEY

mkdir -p "$home/.claude/projects/-home-dev-proj"
cp "$capture"/transcripts/*.jsonl "$home/.claude/projects/-home-dev-proj/"

for event in 01-SessionStart 02-UserPromptSubmit 03-Stop 04-SessionEnd; do
    echo "\$ convex-sidecar hook < $event.json"
    sed "s#/home/dev/.claude#$home/.claude#" "$capture/hooks/$event.json" | "$sidecar" hook
done
echo
echo '$ convex-sidecar sessions'
"$sidecar" sessions
echo
echo '$ convex-sidecar show 6ecd139f'
"$sidecar" show 6ecd139f
cat <<'TEXT'

The session is in the journal (SQLite) of a temporary home. To record your own sessions, in Convex
as well:
  cargo install --locked --path .
  convex-sidecar setup
TEXT
