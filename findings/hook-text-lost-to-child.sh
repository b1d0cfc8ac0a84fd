#!/usr/bin/env bash
# Guess:     a hook is done when its process ends. One that starts a daemon in the background, prints its text and exits with 0 has
#            delivered the text.
# Versions:  @anthropic-ai/claude-code 2.1.332, @openai/codex 0.171.0, @github/copilot 1.0.102 (Linux, Node 20 or newer, root).
# Behaviour: Claude Code takes the text when the hook ends. Codex and Copilot go on reading until every process that inherited the
#            hook's standard output has closed it. If the background process outlives the time limit of the hook (5 s here), they
#            drop the text of a hook that ended at once with status 0. With the child's output redirected all three take it.
#            So whatever a hook starts must not inherit its standard output and error.
# Seen:      child holds the output: claude taken, codex lost, copilot lost / child redirected: taken in all three
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"
mkdir -p project home/.claude home/.codex home/.copilot/hooks tmp; git init -q project; bin=$dir/node_modules/.bin

# A model on loopback that answers "done." in the three dialects and writes down what it was asked.
cat > model.mjs <<'JS'
import { createServer } from 'node:http';
import { appendFileSync } from 'node:fs';
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
const chat = () => [{ delta: { role: 'assistant', content: 'done.' }, finish_reason: null }, { delta: {}, finish_reason: 'stop' }]
  .map((choice) => ({ id: 'c', object: 'chat.completion.chunk', created: 1, model: 'm', choices: [{ index: 0, ...choice }] }));
createServer((request, response) => {
  let body = '';
  request.on('data', (part) => { body += part; }).on('end', () => {
    appendFileSync('../requests', body + '\n');
    const events = { messages: anthropic, responses, completions: chat }[request.url.split('?')[0].split('/').pop()]?.() ?? [];
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
hook="{\"type\":\"command\",\"command\":\"$dir/hook\",\"timeout\":5}"
echo "{\"hooks\":{\"SessionStart\":[{\"hooks\":[$hook]}]}}" | tee home/.claude/settings.json > home/.codex/hooks.json
echo "{\"version\":1,\"hooks\":{\"sessionStart\":[{\"type\":\"command\",\"bash\":\"$dir/hook\",\"timeoutSec\":5}]}}" > home/.copilot/hooks/mail.json
npm install --silent --no-audit --no-fund @anthropic-ai/claude-code@2.1.332 @openai/codex@0.171.0 @github/copilot@1.0.102 >/dev/null

# ask OUTPUT_OF_CHILD OUTPUT_OF_HOOK COMMAND...: one run in namespaces of its own, which end whatever it has started.
ask() {
  printf '#!/bin/sh\nsleep 40 %s &\necho '\''%s'\''\n' "$1" "$2" > hook; chmod +x hook; shift 2; : > requests
  unshare --net --pid --fork --kill-child --mount-proc bash -c '
    ip link set lo up; cd project; node ../model.mjs & sleep 1
    timeout 90 env -i PATH="$PATH" HOME="$1/home" TMPDIR="$1/tmp" DISABLE_AUTOUPDATER=1 CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 \
      ANTHROPIC_API_KEY=dummy ANTHROPIC_BASE_URL=http://127.0.0.1:8900 LOCAL_KEY=dummy COPILOT_OFFLINE=true COPILOT_ALLOW_ALL=true \
      COPILOT_MODEL=m COPILOT_PROVIDER_BASE_URL=http://127.0.0.1:8900/v1 "${@:2}" </dev/null >/dev/null 2>&1' bash "$dir" "$@" || true
  [ -s requests ] || { echo "no request"; return; }
  if grep -q 'three new messages' requests; then echo taken; else echo lost; fi
}
all() {
  echo "claude $(ask "$1" 'three new messages' "$bin"/claude -p hello), codex $(
    ask "$1" 'three new messages' "$bin"/codex exec --dangerously-bypass-hook-trust hello), copilot $(
    ask "$1" '{"additionalContext":"three new messages"}' "$bin"/copilot -p hello)"
}
holds=$(all ''); redirected=$(all '>/dev/null 2>&1')
echo "child holds the output: $holds"; echo "child redirected: $redirected"
[ "$holds" = "claude taken, codex lost, copilot lost" ] && [ "$redirected" = "claude taken, codex taken, copilot taken" ] ||
    { echo "changed" >&2; exit 1; }
