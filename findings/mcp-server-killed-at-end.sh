#!/usr/bin/env bash
# Guess:     at the end of a session a stdio server sees its standard input close and has a moment to say goodbye before it gets SIGTERM
#            and at last SIGKILL, as the MCP specification describes and as the official client does.
# Versions:  @anthropic-ai/claude-code 2.1.332, @github/copilot 1.0.102, @modelcontextprotocol/sdk 1.32.2 (Linux, Node 20 or newer,
#            root).
# Behaviour: a server that needs one second after the first sign of the end finishes only under the official client. Claude Code never
#            closes standard input: it sends SIGINT, then SIGTERM, and kills within half a second. Copilot kills within milliseconds.
#            So a server must not leave anything for its end, neither a goodbye nor a flush, and who has gone must be found otherwise.
# Seen:      sdk: finished after EOF / claude: killed after SIGINT SIGTERM / copilot: killed
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"
mkdir -p project home/.copilot tmp; git init -q project; bin=$dir/node_modules/.bin

cat > server.mjs <<'JS'
import { appendFileSync } from 'node:fs';
import readline from 'node:readline';
const note = (word) => appendFileSync(process.argv[2], word + '\n');
const say = (message) => process.stdout.write(JSON.stringify({ jsonrpc: '2.0', ...message }) + '\n');
let ending = false;
const end = (sign) => {
  note(sign);
  if (!ending) setTimeout(() => { note('finished'); process.exit(); }, 1000);
  ending = true;
};
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, end);
process.stdout.on('error', () => {});
readline.createInterface({ input: process.stdin }).on('close', () => end('EOF')).on('line', (line) => {
  const { id, method, params } = JSON.parse(line);
  if (method === 'initialize')
    say({ id, result: { protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 's', version: '1' } } });
  else if (method === 'tools/list') say({ id, result: { tools: [{ name: 'inbox', inputSchema: { type: 'object' } }] } });
  else if (method === 'notifications/initialized') note('ready');
  else if (id !== undefined) say({ id, error: { code: -32601, message: 'no such method' } });
});
JS
cat > client.mjs <<'JS'
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
const client = new Client({ name: 'c', version: '1' });
await client.connect(new StdioClientTransport({ command: 'node', args: ['server.mjs', 'signs'] }));
await client.listTools();
await client.close();
JS
# A model on loopback that answers "done." in both dialects after two seconds, in which the server is surely up.
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
createServer((request, response) => {
  request.resume().on('end', () => {
    const events = { messages: anthropic, completions: chat }[request.url.split('?')[0].split('/').pop()]?.() ?? [];
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    const text = events.map((event) => `event: ${event.type ?? 'message'}\ndata: ${JSON.stringify(event)}\n\n`).join('');
    setTimeout(() => response.end(text), 2000);
  });
}).listen(8900, '127.0.0.1');
JS
echo "{\"mcpServers\":{\"mail\":{\"command\":\"node\",\"args\":[\"$dir/server.mjs\",\"$dir/signs\"]}}}" |
    tee project/.mcp.json > home/.copilot/mcp-config.json
npm install --silent --no-audit --no-fund @anthropic-ai/claude-code@2.1.332 @github/copilot@1.0.102 @modelcontextprotocol/sdk@1.32.2 zod@4 \
    >/dev/null

# ask COMMAND...: one session in namespaces of its own; they stay for three seconds after it, more than the server needs.
ask() {
  : > signs
  unshare --net --pid --fork --kill-child --mount-proc bash -c '
    ip link set lo up; cd project; node ../model.mjs & sleep 1
    timeout 90 env -i PATH="$PATH" HOME="$1/home" TMPDIR="$1/tmp" DISABLE_AUTOUPDATER=1 CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 \
      ANTHROPIC_API_KEY=dummy ANTHROPIC_BASE_URL=http://127.0.0.1:8900 COPILOT_OFFLINE=true COPILOT_ALLOW_ALL=true \
      COPILOT_MODEL=m COPILOT_PROVIDER_BASE_URL=http://127.0.0.1:8900/v1 "${@:2}" </dev/null >/dev/null 2>&1
    sleep 3' bash "$dir" "$@" || true
  told
}
told() {  # what the server was told of the end, and whether it came to its own
  [ "$(head -n 1 signs)" = ready ] || { echo "no server"; return; }
  local seen; seen=$(sed 1d signs | grep -v finished | tr '\n' ' ')
  if grep -q finished signs; then echo "finished after ${seen% }"; else echo "killed after ${seen% }"; fi
}
timeout 60 node client.mjs; sdk=$(told)
claude=$(ask "$bin/claude" -p hello); copilot=$(ask "$bin/copilot" -p hello)
printf '%s\n' "sdk: $sdk" "claude: $claude" "copilot: $copilot"
[ "$sdk" = "finished after EOF" ] && [ "$claude" = "killed after SIGINT SIGTERM" ] && [[ $copilot = killed* ]] ||
    { echo "changed" >&2; exit 1; }
