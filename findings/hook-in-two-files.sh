#!/usr/bin/env bash
# Guess:     runtimes that take the same shape of hooks file merge the user's file and the project's by one rule: every entry runs.
# Versions:  @anthropic-ai/claude-code 2.1.332, @openai/codex 0.171.0, @github/copilot 1.0.102 (Linux, Node 20 or newer, root).
# Behaviour: the same command stands in the user's and in the project's file. Claude Code runs it once, Codex and Copilot run it twice. In
#            Claude Code one more blank in the command makes it two as well. Whoever sets hooks up for the user and for a project has
#            to make the hook itself notice that it runs twice, or new mail is shown twice.
# Seen:      same command: claude 1, codex 2, copilot 2 / one more blank: claude 2, codex 2, copilot 2
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"
mkdir -p project/{.claude,.codex,.github/hooks} home/{.claude,.codex,.copilot/hooks} tmp; git init -q project; bin=$dir/node_modules/.bin

# A model on loopback that answers "done." in the three dialects.
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
const chat = () => [{ delta: { role: 'assistant', content: 'done.' }, finish_reason: null }, { delta: {}, finish_reason: 'stop' }]
  .map((choice) => ({ id: 'c', object: 'chat.completion.chunk', created: 1, model: 'm', choices: [{ index: 0, ...choice }] }));
createServer((request, response) => {
  request.resume().on('end', () => {
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
npm install --silent --no-audit --no-fund @anthropic-ai/claude-code@2.1.332 @openai/codex@0.171.0 @github/copilot@1.0.102 >/dev/null
printf '#!/bin/sh\necho run >> %s/runs\n' "$dir" > hook; chmod +x hook

# claude COMMAND > FILE, copilot COMMAND > FILE: a hooks file in the shape of Claude Code and Codex, and in Copilot's
claude() { echo "{\"hooks\":{\"SessionStart\":[{\"hooks\":[{\"type\":\"command\",\"command\":\"$1\"}]}]}}"; }
copilot() { echo "{\"version\":1,\"hooks\":{\"sessionStart\":[{\"type\":\"command\",\"bash\":\"$1\"}]}}"; }
runs() {  # runs COMMAND...: how often the hook ran in one session in namespaces of its own
  : > runs
  unshare --net --pid --fork --kill-child --mount-proc bash -c '
    ip link set lo up; cd project; node ../model.mjs & sleep 1
    timeout 90 env -i PATH="$PATH" HOME="$1/home" TMPDIR="$1/tmp" DISABLE_AUTOUPDATER=1 CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 \
      ANTHROPIC_API_KEY=dummy ANTHROPIC_BASE_URL=http://127.0.0.1:8900 LOCAL_KEY=dummy COPILOT_OFFLINE=true COPILOT_ALLOW_ALL=true \
      COPILOT_MODEL=m COPILOT_PROVIDER_BASE_URL=http://127.0.0.1:8900/v1 "${@:2}" </dev/null >/dev/null 2>&1' bash "$dir" "$@" || true
  wc -l < runs
}
all() {  # all USERS_COMMAND PROJECTS_COMMAND
  claude "$1" | tee home/.claude/settings.json > home/.codex/hooks.json
  claude "$2" | tee project/.claude/settings.json > project/.codex/hooks.json
  copilot "$1" > home/.copilot/hooks/mail.json
  copilot "$2" > project/.github/hooks/mail.json
  local claude codex copilot
  claude=$(runs "$bin/claude" -p hello); codex=$(runs "$bin/codex" exec --dangerously-bypass-hook-trust hello)
  rm project/.claude/settings.json  # Copilot reads it too
  copilot=$(runs "$bin/copilot" -p hello)
  echo "claude $claude, codex $codex, copilot $copilot"
}
same=$(all "$dir/hook" "$dir/hook"); blank=$(all "$dir/hook mail" "$dir/hook  mail")
echo "same command: $same"; echo "one more blank: $blank"
[ "$same" = "claude 1, codex 2, copilot 2" ] && [ "$blank" = "claude 2, codex 2, copilot 2" ] || { echo "changed" >&2; exit 1; }
