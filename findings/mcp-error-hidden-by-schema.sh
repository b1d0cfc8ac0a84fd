#!/usr/bin/env bash
# Guess:     a result with `isError: true` reaches the host with its text in every client, because the schema describes success.
# Versions:  @modelcontextprotocol/sdk 1.32.2 (Node 20 or newer), mcp 2.3.0 (Python 3.10 or newer).
# Behaviour: an error result that also carries structured facts of its own shape (here `retry_after`) is thrown away by the
#            TypeScript client: the host sees a schema error instead of the text. The Python client returns text and facts. Without
#            structured content both return the text, so a server should put nothing but text into an error.
# Seen:      typescript: error -32602 with facts, "peer away" without / python: "peer away" with facts, "peer away" without
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"

cat > server.mjs <<'JS'
import readline from 'node:readline';
const answer = (id, result) => process.stdout.write(JSON.stringify({ jsonrpc: '2.0', id, result }) + '\n');
const outputSchema = { type: 'object', properties: { count: { type: 'integer' } }, required: ['count'] };
readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const { id, method, params } = JSON.parse(line);
  if (method === 'initialize')
    answer(id, { protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 's', version: '1' } });
  if (method === 'tools/list') answer(id, { tools: [{ name: 'count', inputSchema: { type: 'object' }, outputSchema }] });
  if (method === 'tools/call') {
    const error = { isError: true, content: [{ type: 'text', text: 'peer away' }] };
    answer(id, params.arguments.facts ? { ...error, structuredContent: { retry_after: 5 } } : error);
  }
});
JS
cat > client.mjs <<'JS'
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
const client = new Client({ name: 'c', version: '1' });
await client.connect(new StdioClientTransport({ command: 'node', args: ['server.mjs'] }));
await client.listTools();
const call = (facts) =>
  client.callTool({ name: 'count', arguments: { facts } }).then((r) => `"${r.content[0].text}"`, (error) => `error ${error.code}`);
console.log(`${await call(true)} with facts, ${await call(false)} without`);
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
            await session.list_tools()
            async def call(facts):
                try:
                    return f'"{(await session.call_tool("count", {"facts": facts})).content[0].text}"'
                except Exception as error:
                    return type(error).__name__
            print(f"{await call(True)} with facts, {await call(False)} without")

asyncio.run(asyncio.wait_for(main(), 60))
PY
npm install --silent --no-audit --no-fund @modelcontextprotocol/sdk@1.32.2 zod@4 >/dev/null
python3 -m venv venv && venv/bin/pip install --quiet mcp==2.3.0

typescript=$(timeout 60 node client.mjs); python=$(timeout 60 venv/bin/python client.py)
echo "typescript: $typescript"; echo "python: $python"
[ "$typescript" = 'error -32602 with facts, "peer away" without' ] && [ "$python" = '"peer away" with facts, "peer away" without' ] ||
    { echo "changed" >&2; exit 1; }
