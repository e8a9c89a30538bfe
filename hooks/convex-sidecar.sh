#!/bin/sh
# Usage: convex-sidecar.sh EVENT. Plugins ship text files, not binaries, so the hooks run this
# script: it finds the separately installed executable and execs it. Without one, the session
# must continue as if there were no plugin: exit 0, and one line for the user when a session starts.
# The client shows a `systemMessage` to the user and not to the model; it discards stderr, and would
# pass plain stdout to the model.

# The client ends this hook within milliseconds, perhaps before the executable can hold signals back.
if [ "${1:-}" = StopFailure ]; then trap '' HUP INT TERM; fi

# The PATH of a client that the desktop, launchd or cron starts is short, so the folders of cargo and
# Homebrew and those of our own copies follow. The copies come last, because nothing updates them but
# `install`. A relative path would lead into the folder of whichever project the session is in.
for program in "${CONVEX_SIDECAR_BIN:-}" convex-sidecar \
  "${CARGO_HOME:-${HOME:-}/.cargo}/bin/convex-sidecar" \
  /opt/homebrew/bin/convex-sidecar \
  /usr/local/bin/convex-sidecar \
  /home/linuxbrew/.linuxbrew/bin/convex-sidecar \
  "${HOME:-}/Library/Application Support/convex-sidecar/bin/convex-sidecar" \
  "${HOME:-}/.local/share/convex-sidecar/bin/convex-sidecar"; do
  # Some shells find files that cannot be executed.
  found=$(command -v "$program" 2>/dev/null) && [ -f "$found" ] && [ -x "$found" ] || continue
  case $found in
    /* | [A-Za-z]:*) exec "$program" hook ;;
  esac
done

if [ "${1:-}" = SessionStart ]; then
  case ${CLAUDE_PLUGIN_ROOT:-} in
    # Such a path would need escaping in JSON or in a shell.
    '' | *[\'\"\\[:cntrl:]]*) root='the folder of the plugin' ;;
    *) root=$CLAUDE_PLUGIN_ROOT ;;
  esac
  printf '{"systemMessage":"convex-sidecar is not installed, so this session is not recorded; install it: %s"}\n' \
    "npm install --global convex-sidecar, or with Homebrew, or cargo install --locked --path '$root'"
fi
exit 0
