#!/bin/sh
# A plugin brings text, not a program built for this machine. So the hooks start this: it finds the program that was installed apart and
# becomes it. Where there is none the session must go on as if the plugin were absent: exit 0, nothing on stdout (the model would read
# it), and one line on stderr when a session starts. The argument is the event's name.

for program in "${CONVEX_SIDECAR_BIN:-}" convex-sidecar "${CARGO_HOME:-${HOME:-}/.cargo}/bin/convex-sidecar"; do
  if command -v "$program" >/dev/null 2>&1; then exec "$program" hook; fi
done

if [ "${1:-}" = SessionStart ]; then
  echo "convex-sidecar is not installed, so this session is not recorded; install it: cargo install --locked --path '${CLAUDE_PLUGIN_ROOT:-.}'" >&2
fi
