#!/usr/bin/env bash
# Guess:     an entry of a hooks file that a runtime does not support is skipped, and the other entries of the file run.
# Versions:  @anthropic-ai/claude-code 2.1.332, @openai/codex 0.171.0 (Linux, Node 20 or newer, root).
# Behaviour: so it is in Claude Code. Codex takes the same shape of file and skips an event that it does not know, and the type "prompt"
#            too. But one entry of the type "http", or with a time limit of 1.5 seconds, both of which Claude Code accepts, and Codex drops
#            every hook of the file; the session goes on without them. A hook that shares its file with the hooks of others may
#            not run, and whoever installs one has to see it run.
# Seen:      does the hook beside it run: unknown event: claude yes, codex yes / prompt: yes, yes / http: yes, no / 1.5 seconds: yes, no
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"
mkdir -p project home/{.claude,.codex} tmp; git init -q project; bin=$dir/node_modules/.bin

# A model on loopback that answers "done." in both dialects.
cat > model.mjs <<'JS'
import { createServer } from 'node:http';
const usage = { input_tokens: 1, output_tokens: 1, total_tokens: 2 };
const anthropic = () => [
  { type: 'message_start', message: { id: 'm', type: 'message', role: 'assistant', model: 'm', content: [], stop_reason: null, usage } },
  { type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } },
  { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'done.' } },
  { type: 'content_block_stop', index: 0 },
  { type: 'message_delta', delta: { stop_reason: 'end_turn' }, usage }, { type: 'message_stop' }];
const responses = () => {
  const item = { type: 'message', role: 'assistant', id: 'i', content: [{ type: 'output_text', text: 'done.' }] };
  return [{ type: 'response.created', response: { id: 'r' } }, { type: 'response.output_item.done', output_index: 0, item },
    { type: 'response.completed', response: { id: 'r', status: 'completed', output: [item], usage } }];
};
createServer((request, response) => {
  request.resume().on('end', () => {
    const events = { messages: anthropic, responses }[request.url.split('?')[0].split('/').pop()]?.() ?? [];
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.end(events.map((event) => `event: ${event.type ?? 'message'}\ndata: ${JSON.stringify(event)}\n\n`).join(''));
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
[projects."$dir/project"]
trust_level = "trusted"
TOML
npm install --silent --no-audit --no-fund @anthropic-ai/claude-code@2.1.332 @openai/codex@0.171.0 >/dev/null
printf '#!/bin/sh\ntouch %s/ran\n' "$dir" > hook; chmod +x hook

ran() {  # ran COMMAND...: whether the hook ran in one session in namespaces of its own
  rm -f ran
  unshare --net --pid --fork --kill-child --mount-proc bash -c '
    ip link set lo up; cd project; node ../model.mjs & sleep 1
    timeout 90 env -i PATH="$PATH" HOME="$1/home" TMPDIR="$1/tmp" DISABLE_AUTOUPDATER=1 CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 \
      ANTHROPIC_API_KEY=dummy ANTHROPIC_BASE_URL=http://127.0.0.1:8900 LOCAL_KEY=dummy \
      "${@:2}" </dev/null >/dev/null 2>&1' bash "$dir" "$@" || true
  if [ -e ran ]; then echo yes; else echo no; fi
}
failed=0
beside() {  # beside NAME EXPECTED EVENT ENTRY: the entry stands in the file before the hook that is looked at
  local seen
  echo "{\"hooks\":{\"$3\":[{\"hooks\":[$4]}],\"SessionStart\":[{\"hooks\":[{\"type\":\"command\",\"command\":\"$dir/hook\"}]}]}}" |
      tee home/.claude/settings.json > home/.codex/hooks.json
  seen="claude $(ran "$bin/claude" -p hello), codex $(ran "$bin/codex" exec --dangerously-bypass-hook-trust hello)"
  echo "$1: $seen"
  [ "$seen" = "$2" ] || failed=1
}
beside 'unknown event' 'claude yes, codex yes' MailArrived '{"type":"command","command":"true"}'
beside prompt 'claude yes, codex yes' PreCompact '{"type":"prompt","prompt":"What is left to do?"}'
beside http 'claude yes, codex no' PreCompact '{"type":"http","url":"http://127.0.0.1:8901/"}'
beside '1.5 seconds' 'claude yes, codex no' PreCompact '{"type":"command","command":"true","timeout":1.5}'
[ $failed = 0 ] || { echo "changed" >&2; exit 1; }
