#!/usr/bin/env bash
# Guess:     a program that reads its settings from the directory it is started in reads all of them there: in a linked git worktree the
#            hooks and the MCP servers of that worktree.
# Versions:  @openai/codex 0.171.0, git 2.39 (Linux, Node 20 or newer, root).
# Behaviour: in a linked worktree Codex takes `.codex/hooks.json` from the main checkout, and neither reads nor mentions that of the
#            worktree; MCP servers it takes from the worktree's `.codex/config.toml`, not from that of the main checkout. So two branches share
#            hooks and not servers, and a file of hooks that is committed on one branch only may never run.
# Seen:      in the worktree: hooks of the main checkout yes, of the worktree no; servers of the main checkout no, of the worktree yes
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"
mkdir -p home/.codex tmp seen
npm install --silent --no-audit --no-fund @openai/codex@0.171.0 >/dev/null
git init -q main; git -C main -c user.name=n -c user.email=e commit -q --allow-empty -m first; git -C main worktree add -q "$dir/linked" -b other
for place in main linked; do
  mkdir -p $place/.codex
  printf '#!/bin/sh\ntouch %s/seen/%s-$1\n' "$dir" $place > $place-note; chmod +x $place-note
  echo "{\"hooks\":{\"SessionStart\":[{\"hooks\":[{\"type\":\"command\",\"command\":\"$dir/$place-note hook\"}]}]}}" > $place/.codex/hooks.json
  printf '[mcp_servers.%s]\ncommand = "%s"\nargs = ["server"]\n' $place "$dir/$place-note" > $place/.codex/config.toml
done
# A model on loopback that answers "done.".
cat > model.mjs <<'JS'
import { createServer } from 'node:http';
const item = { type: 'message', role: 'assistant', id: 'i', content: [{ type: 'output_text', text: 'done.' }] };
const usage = { input_tokens: 1, output_tokens: 1, total_tokens: 2 };
const events = [{ type: 'response.created', response: { id: 'r' } }, { type: 'response.output_item.done', output_index: 0, item },
  { type: 'response.completed', response: { id: 'r', status: 'completed', output: [item], usage } }];
createServer((request, response) => {
  request.resume().on('end', () => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.end(events.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join(''));
  });
}).listen(8900, '127.0.0.1');
JS
cat > home/.codex/config.toml <<TOML
model = "m"
model_provider = "local"
[model_providers.local]
name = "local"
base_url = "http://127.0.0.1:8900/v1"
wire_api = "responses"
env_key = "LOCAL_KEY"
[projects."$dir/main"]
trust_level = "trusted"
[projects."$dir/linked"]
trust_level = "trusted"
TOML
unshare --net --pid --fork --kill-child --mount-proc bash -c '
  ip link set lo up; cd linked; node ../model.mjs & sleep 1
  timeout 90 env -i PATH="$PATH" HOME="$1/home" TMPDIR="$1/tmp" LOCAL_KEY=dummy \
    ../node_modules/.bin/codex exec --dangerously-bypass-hook-trust hello </dev/null >/dev/null 2>&1' bash "$dir" || true
is() { if [ -e "seen/$1" ]; then echo yes; else echo no; fi; }
seen="hooks of the main checkout $(is main-hook), of the worktree $(is linked-hook); servers of the main checkout $(is main-server), of the worktree $(is linked-server)"
echo "in the worktree: $seen"
[ "$seen" = "hooks of the main checkout yes, of the worktree no; servers of the main checkout no, of the worktree yes" ] || { echo "changed" >&2; exit 1; }
