#!/usr/bin/env bash
# Guess:     `"env": {"AGENT_NAME": "${AGENT_NAME}"}` in the configuration of an MCP server hands the variable on, and where it is not
#            set the server gets none or an empty one, as in a shell.
# Versions:  @anthropic-ai/claude-code 2.1.332, @github/copilot 1.0.102, @google/gemini-cli 0.61.0 (Linux, Node 20 or newer, root).
# Behaviour: a variable that is set arrives in all three. One that is not set arrives in Claude Code and Copilot as the very text
#            `${AGENT_NAME}`: a server that asks only whether its variable is there registers an agent of that name. Gemini CLI
#            makes it empty. A server has to treat a value that begins with `${` as missing, and so an empty one.
# Seen:      claude: set: ann, unset: ${OTHER_NAME} / copilot: set: ann, unset: ${OTHER_NAME} / gemini: set: ann, unset: empty
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"
mkdir -p project/.gemini home/.copilot home/.gemini tmp; git init -q project; bin=$dir/node_modules/.bin

cat > server.mjs <<'JS'
import { writeFileSync } from 'node:fs';
import readline from 'node:readline';
const say = (message) => process.stdout.write(JSON.stringify({ jsonrpc: '2.0', ...message }) + '\n');
const shown = (value) => (value === undefined ? 'none' : value === '' ? 'empty' : value);
writeFileSync(process.argv[2], `set: ${shown(process.env.FIRST)}, unset: ${shown(process.env.SECOND)}`);
readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const { id, method, params } = JSON.parse(line);
  if (method === 'initialize')
    say({ id, result: { protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 's', version: '1' } } });
  else if (method === 'tools/list') say({ id, result: { tools: [{ name: 'inbox', inputSchema: { type: 'object' } }] } });
  else if (id !== undefined) say({ id, error: { code: -32601, message: 'no such method' } });
});
JS
# A model on loopback that answers "done." in the three dialects.
cat > model.mjs <<'JS'
import { createServer } from 'node:http';
const usage = { input_tokens: 1, output_tokens: 1 };
const anthropic = () => [
  { type: 'message_start', message: { id: 'm', type: 'message', role: 'assistant', model: 'm', content: [], stop_reason: null, usage } },
  { type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } },
  { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'done.' } },
  { type: 'content_block_stop', index: 0 },
  { type: 'message_delta', delta: { stop_reason: 'end_turn' }, usage }, { type: 'message_stop' }];
const chat = () => [{ delta: { role: 'assistant', content: 'done.' }, finish_reason: null }, { delta: {}, finish_reason: 'stop' }]
  .map((choice) => ({ id: 'c', object: 'chat.completion.chunk', created: 1, model: 'm', choices: [{ index: 0, ...choice }] }));
const gemini = () => [{ candidates: [{ content: { role: 'model', parts: [{ text: 'done.' }] }, finishReason: 'STOP', index: 0 }] }];
createServer((request, response) => {
  request.resume().on('end', () => {
    const dialect = { messages: anthropic, completions: chat, 'gemini-2.5-flash:streamGenerateContent': gemini };
    const events = dialect[request.url.split('?')[0].split('/').pop()]?.() ?? [];
    const name = (event) => (event.type ? `event: ${event.type}\n` : '');
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.end(events.map((event) => `${name(event)}data: ${JSON.stringify(event)}\n\n`).join(''));
  });
}).listen(8900, '127.0.0.1');
JS
cat > home/.copilot/mcp-config.json <<JSON
{"mcpServers": {"s": {"command": "node", "args": ["$dir/server.mjs", "$dir/seen"],
  "env": {"FIRST": "\${AGENT_NAME}", "SECOND": "\${OTHER_NAME}"}}}}
JSON
tee project/.mcp.json project/.gemini/settings.json < home/.copilot/mcp-config.json >/dev/null
echo '{"security":{"auth":{"selectedType":"gemini-api-key"}},"general":{"enableAutoUpdate":false},"privacy":{"usageStatisticsEnabled":false}}' \
    > home/.gemini/settings.json
npm install --silent --no-audit --no-fund @anthropic-ai/claude-code@2.1.332 @github/copilot@1.0.102 @google/gemini-cli@0.61.0 >/dev/null

ask() {  # ask COMMAND...: one session in namespaces of its own; AGENT_NAME is set, OTHER_NAME is not
  echo "no server" > seen
  unshare --net --pid --fork --kill-child --mount-proc bash -c '
    ip link set lo up; cd project; node ../model.mjs & sleep 1
    timeout 90 env -i PATH="$PATH" HOME="$1/home" TMPDIR="$1/tmp" AGENT_NAME=ann DISABLE_AUTOUPDATER=1 \
      CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 ANTHROPIC_API_KEY=dummy ANTHROPIC_BASE_URL=http://127.0.0.1:8900 \
      COPILOT_OFFLINE=true COPILOT_ALLOW_ALL=true COPILOT_MODEL=m COPILOT_PROVIDER_BASE_URL=http://127.0.0.1:8900/v1 \
      GEMINI_API_KEY=dummy GOOGLE_GEMINI_BASE_URL=http://127.0.0.1:8900 GEMINI_CLI_TRUST_WORKSPACE=true \
      "${@:2}" </dev/null >/dev/null 2>&1' bash "$dir" "$@" || true
  cat seen
}
seen="claude: $(ask "$bin/claude" -p hello) / copilot: $(ask "$bin/copilot" -p hello) / gemini: $(
    ask "$bin/gemini" -m gemini-2.5-flash -p hello)"
echo "$seen"
# shellcheck disable=SC2016
expected='claude: set: ann, unset: ${OTHER_NAME} / copilot: set: ann, unset: ${OTHER_NAME} / gemini: set: ann, unset: empty'
[ "$seen" = "$expected" ] || { echo "changed" >&2; exit 1; }
