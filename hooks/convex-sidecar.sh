#!/bin/sh
# A plugin brings text, not a program built for this machine. So the hooks start this: it finds the program that was installed apart and
# becomes it. Where there is none the session must go on as if the plugin were absent: exit 0, and one line to the user when a session
# starts. The client shows the user a `systemMessage` and keeps it from the model; it shows stderr to nobody, and plain stdout the model
# would read. The argument is the event's name.

for program in "${CONVEX_SIDECAR_BIN:-}" convex-sidecar "${CARGO_HOME:-${HOME:-}/.cargo}/bin/convex-sidecar"; do
  if command -v "$program" >/dev/null 2>&1; then exec "$program" hook; fi
done

if [ "${1:-}" = SessionStart ]; then
  case ${CLAUDE_PLUGIN_ROOT:-} in
    # Neither JSON nor a shell would take such a path as it is.
    '' | *[\'\"\\[:cntrl:]]*) root='the folder of the plugin' ;;
    *) root=$CLAUDE_PLUGIN_ROOT ;;
  esac
  printf '{"systemMessage":"convex-sidecar is not installed, so this session is not recorded; install it: %s"}\n' \
    "cargo install --locked --path '$root'"
fi
exit 0
