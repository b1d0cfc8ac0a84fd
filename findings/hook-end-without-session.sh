#!/usr/bin/env bash
# Guess:     a hook for the end of a session runs for a session, so a hook for its start has run with the same id before; a command that
#            only prints a setting runs neither.
# Versions:  @anthropic-ai/claude-code 2.1.332 (Linux, Node 20 or newer, root).
# Behaviour: `claude mcp get NAME` and `claude mcp list` run the SessionEnd hooks of a trusted folder, with an id that no other hook ever
#            gets and the reason "other"; SessionStart does not run. `claude --version` runs none. A hook that ends what "the session" of
#            this folder stands for ends that of another one, which goes on.
# Seen:      mcp get: end with reason other, no start / mcp list: the same / --version: nothing
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"
mkdir -p project/.claude home tmp; git init -q project
npm install --silent --no-audit --no-fund @anthropic-ai/claude-code@2.1.332 >/dev/null
# What it prints is the payload, in one line.
printf '#!/bin/sh\n{ cat; echo; } >> %s/payloads\n' "$dir" > hook; chmod +x hook
entry="[{\"hooks\":[{\"type\":\"command\",\"command\":\"$dir/hook\"}]}]"
echo "{\"hooks\":{\"SessionStart\":$entry,\"SessionEnd\":$entry}}" > project/.claude/settings.json
echo '{"mcpServers":{"none":{"command":"true","args":[]}}}' > project/.mcp.json
echo "{\"hasCompletedOnboarding\":true,\"projects\":{\"$dir/project\":{\"hasTrustDialogAccepted\":true}}}" > home/.claude.json

failed=0
asked() {  # asked EXPECTED ARGUMENT...: the events of the hooks that `claude ARGUMENT...` runs, and their reasons
  local seen
  : > payloads
  unshare --net --pid --fork --kill-child --mount-proc bash -c '
    ip link set lo up; cd project
    timeout 90 env -i PATH="$PATH" HOME="$1/home" TMPDIR="$1/tmp" DISABLE_AUTOUPDATER=1 CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 \
      ANTHROPIC_API_KEY=dummy ../node_modules/.bin/claude "${@:2}" </dev/null >/dev/null 2>&1' bash "$dir" "${@:2}" || true
  seen=$(node -e '
    const lines = require("fs").readFileSync("payloads", "utf8").split("\n").filter((line) => line.trim());
    console.log(lines.map(JSON.parse).map(({ hook_event_name: event, reason }) => [event, reason].join(" ")).join(", ") || "nothing");')
  echo "${*:2}: $seen"
  [ "$seen" = "$1" ] || failed=1
}
asked 'SessionEnd other' mcp get none
asked 'SessionEnd other' mcp list
asked nothing --version
[ $failed = 0 ] || { echo "changed" >&2; exit 1; }
