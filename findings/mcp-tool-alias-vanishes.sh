#!/usr/bin/env bash
# Guess:     a server that renames its tool `mail_read` to `mail.read` (MCP allows dots) and keeps the old name beside it offers both, as
#            in the list that it sends.
# Versions:  @anthropic-ai/claude-code 2.1.332, @github/copilot 1.0.102, opencode-ai 1.18.33 (Linux, Node 20 or newer, root).
# Behaviour: runtimes replace what the model's interface does not take. In Claude Code and opencode the two names become one, and one of
#            the tools is missing without any message: Claude Code keeps the first of the list, opencode the last. Copilot turns the
#            dot into a dash and offers both. Names must differ in letters and digits, not only in their punctuation.
# Seen:      claude: mcp__s__mail_read is the first / copilot: s-mail-read is the first, s-mail_read the second / opencode: s_mail_read
#            is the second
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"
mkdir -p project home/.copilot tmp; git init -q project; bin=$dir/node_modules/.bin

cat > server.mjs <<'JS'
import readline from 'node:readline';
const say = (message) => process.stdout.write(JSON.stringify({ jsonrpc: '2.0', ...message }) + '\n');
const tool = (name, description) => ({ name, description, inputSchema: { type: 'object' }, _meta: { 'anthropic/alwaysLoad': true } });
readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const { id, method, params } = JSON.parse(line);
  if (method === 'initialize')
    say({ id, result: { protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 's', version: '1' } } });
  else if (method === 'tools/list') say({ id, result: { tools: [tool('mail.read', 'the first'), tool('mail_read', 'the second')] } });
  else if (id !== undefined) say({ id, error: { code: -32601, message: 'no such method' } });
});
JS
# A model on loopback that answers "done." in both dialects and notes which of the two tools it was offered under which name.
cat > model.mjs <<'JS'
import { createServer } from 'node:http';
import { writeFileSync } from 'node:fs';
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
  let body = '';
  request.on('data', (part) => { body += part; }).on('end', () => {
    const tools = (JSON.parse(body || '{}').tools ?? []).map((tool) => tool.function ?? tool);
    const ours = tools.filter((tool) => /^the (first|second)$/.test(tool.description)).map((tool) => `${tool.name} is ${tool.description}`);
    if (ours.length > 0) writeFileSync('../offered', ours.sort().join(', '));
    const events = { messages: anthropic, completions: chat }[request.url.split('?')[0].split('/').pop()]?.() ?? [];
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.end(events.map((event) => `event: ${event.type ?? 'message'}\ndata: ${JSON.stringify(event)}\n\n`).join(''));
  });
}).listen(8900, '127.0.0.1');
JS
echo "{\"mcpServers\":{\"s\":{\"command\":\"node\",\"args\":[\"$dir/server.mjs\"]}}}" | tee project/.mcp.json > home/.copilot/mcp-config.json
cat > project/opencode.json <<JSON
{"model": "local/m", "small_model": "local/m", "autoupdate": false, "share": "disabled",
 "provider": {"local": {"npm": "@ai-sdk/openai-compatible", "options": {"baseURL": "http://127.0.0.1:8900/v1", "apiKey": "dummy"}, "models": {"m": {}}}},
 "mcp": {"s": {"type": "local", "command": ["node", "$dir/server.mjs"]}}}
JSON
npm install --silent --no-audit --no-fund @anthropic-ai/claude-code@2.1.332 @github/copilot@1.0.102 opencode-ai@1.18.33 >/dev/null

ask() {  # ask COMMAND...: one session in namespaces of its own
  echo "no tool" > offered
  unshare --net --pid --fork --kill-child --mount-proc bash -c '
    ip link set lo up; cd project; node ../model.mjs & sleep 1
    timeout 120 env -i PATH="$PATH" HOME="$1/home" TMPDIR="$1/tmp" DISABLE_AUTOUPDATER=1 CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 \
      ANTHROPIC_API_KEY=dummy ANTHROPIC_BASE_URL=http://127.0.0.1:8900 COPILOT_OFFLINE=true COPILOT_ALLOW_ALL=true \
      COPILOT_MODEL=m COPILOT_PROVIDER_BASE_URL=http://127.0.0.1:8900/v1 "${@:2}" </dev/null >/dev/null 2>&1' bash "$dir" "$@" || true
  cat offered
}
seen="claude: $(ask "$bin/claude" -p hello) / copilot: $(ask "$bin/copilot" -p hello) / opencode: $(ask "$bin/opencode" run hello)"
echo "$seen"
[ "$seen" = "claude: mcp__s__mail_read is the first / copilot: s-mail-read is the first, s-mail_read is the second / opencode: s_mail_read is the second" ] ||
    { echo "changed" >&2; exit 1; }
