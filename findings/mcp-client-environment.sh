#!/usr/bin/env bash
# Guess:     an MCP server that a client starts over stdio has the environment of the client, as any child process does.
# Versions:  @modelcontextprotocol/sdk 1.32.2 (Node 20 or newer), mcp 2.3.0 (Python 3.10 or newer).
# Behaviour: both clients pass only HOME, LOGNAME, PATH, SHELL, TERM and USER, as far as they are set. Any other variable has to be
#            named in the client's `env`. A variable that selects an agent or a repository does not reach the server.
# Seen:      typescript: HOME PATH SHELL TERM / python: HOME PATH SHELL TERM (AGENT_NAME was set)
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"

cat > server.mjs <<'JS'
import readline from 'node:readline';
const answer = (id, result) => process.stdout.write(JSON.stringify({ jsonrpc: '2.0', id, result }) + '\n');
readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const { id, method, params } = JSON.parse(line);
  if (method === 'initialize')
    answer(id, { protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 's', version: '1' } });
  if (method === 'tools/list') answer(id, { tools: [{ name: 'names', inputSchema: { type: 'object' } }] });
  if (method === 'tools/call') {
    const shown = Object.keys(process.env).filter((name) => !name.startsWith('__')).sort();
    answer(id, { content: [{ type: 'text', text: shown.join(' ') }] });
  }
});
JS
cat > client.mjs <<'JS'
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
const client = new Client({ name: 'c', version: '1' });
await client.connect(new StdioClientTransport({ command: 'node', args: ['server.mjs'] }));
console.log((await client.callTool({ name: 'names', arguments: {} })).content[0].text);
await client.close();
JS
cat > client.py <<'PY'
import asyncio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

async def main():
    async with stdio_client(StdioServerParameters(command="node", args=["server.mjs"])) as (read, write):
        async with ClientSession(read, write) as session:
            await session.initialize()
            print((await session.call_tool("names", {})).content[0].text)

asyncio.run(asyncio.wait_for(main(), 60))
PY
npm install --silent --no-audit --no-fund @modelcontextprotocol/sdk@1.32.2 zod@4 >/dev/null
python3 -m venv venv && venv/bin/pip install --quiet mcp==2.3.0

run() { env -i HOME="$HOME" PATH="$PATH" SHELL=/bin/sh TERM=xterm AGENT_NAME=ann timeout 60 "$@"; }
typescript=$(run node client.mjs); python=$(run venv/bin/python client.py)
echo "typescript: $typescript"; echo "python: $python"
[ "$typescript" = "HOME PATH SHELL TERM" ] && [ "$python" = "HOME PATH SHELL TERM" ] || { echo "changed" >&2; exit 1; }
