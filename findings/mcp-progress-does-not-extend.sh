#!/usr/bin/env bash
# Guess:     a caller that asks for progress waits as long as progress arrives; progress exists for calls of unknown length.
# Versions:  @modelcontextprotocol/sdk 1.32.2 (Node 20 or newer).
# Behaviour: the time limit counts from the request. Progress every 0.2 s does not move it unless the caller also passes
#            `resetTimeoutOnProgress`. A server that waits for something must bound the wait below its hosts' limits.
# Seen:      asked for progress: error -32001 after progress / with resetTimeoutOnProgress: done
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"

cat > server.mjs <<'JS'
import readline from 'node:readline';
const say = (message) => process.stdout.write(JSON.stringify({ jsonrpc: '2.0', ...message }) + '\n');
readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const { id, method, params } = JSON.parse(line);
  if (method === 'initialize')
    say({ id, result: { protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 's', version: '1' } } });
  if (method === 'tools/call') {
    let progress = 0;
    const timer = setInterval(() => {
      progress += 1;
      say({ method: 'notifications/progress', params: { progressToken: params._meta.progressToken, progress } });
      if (progress < 15) return;
      clearInterval(timer);
      say({ id, result: { content: [{ type: 'text', text: 'done' }] } });
    }, 200);
  }
});
JS
cat > client.mjs <<'JS'
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
const client = new Client({ name: 'c', version: '1' });
await client.connect(new StdioClientTransport({ command: 'node', args: ['server.mjs'] }));
const call = async (options) => {
  let heard = 0;
  const result = client.callTool({ name: 'wait', arguments: {} }, undefined, { timeout: 1500, onprogress: () => { heard += 1; }, ...options });
  return result.then((r) => r.content[0].text, (error) => `error ${error.code} after ${heard > 0 ? 'progress' : 'silence'}`);
};
console.log(await call({}));
console.log(await call({ resetTimeoutOnProgress: true }));
await client.close();
JS
npm install --silent --no-audit --no-fund @modelcontextprotocol/sdk@1.32.2 zod@4 >/dev/null
seen=$(timeout 60 node client.mjs)
echo "$seen"
[ "$seen" = $'error -32001 after progress\ndone' ] || { echo "changed" >&2; exit 1; }
