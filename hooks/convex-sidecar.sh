#!/bin/sh
# Usage: convex-sidecar.sh EVENT. Plugins ship text files, not binaries, so the hooks run this
# script: it finds the separately installed executable and execs it. Without one, the session
# must continue as if there were no plugin: exit 0, and one line for the user when a session starts.
# The client shows a `systemMessage` to the user and not to the model; it discards stderr, and would
# pass plain stdout to the model.

# The client ends this hook within milliseconds, perhaps before the executable can hold signals back.
if [ "${1:-}" = StopFailure ]; then trap '' HUP INT TERM; fi

# A relative path would lead into the folder of whichever project the session is in.
for program in "${CONVEX_SIDECAR_BIN:-}" convex-sidecar "${CARGO_HOME:-${HOME:-}/.cargo}/bin/convex-sidecar"; do
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
    "cargo install --locked --path '$root'"
fi
exit 0
