#!/usr/bin/env bash
# Guess:     whether a client accepts a tool's result depends on the tool's declaration and the result, not on earlier calls.
# Versions:  @modelcontextprotocol/sdk 1.32.2 (Node 20 or newer), mcp 2.3.0 (Python 3.10 or newer).
# Behaviour: a tool declares an `outputSchema` and answers with text only. The TypeScript client returns that result as long as
#            `tools/list` was not called on the connection, and throws for the same call afterwards. The Python client asks for the
#            list by itself and always throws. A server that was tested by calling a tool directly can fail in every real host.
# Seen:      typescript: accepted, then error -32600 / python: RuntimeError, then RuntimeError
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
  if (method === 'tools/call') answer(id, { content: [{ type: 'text', text: '3 messages' }] });
});
JS
cat > client.mjs <<'JS'
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
const client = new Client({ name: 'c', version: '1' });
await client.connect(new StdioClientTransport({ command: 'node', args: ['server.mjs'] }));
const call = () => client.callTool({ name: 'count', arguments: {} }).then(() => 'accepted', (error) => `error ${error.code}`);
const before = await call();
await client.listTools();
console.log(`${before}, then ${await call()}`);
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
            async def call():
                try:
                    await session.call_tool("count", {})
                    return "accepted"
                except Exception as error:
                    return type(error).__name__
            before = await call()
            await session.list_tools()
            print(f"{before}, then {await call()}")

asyncio.run(asyncio.wait_for(main(), 60))
PY
npm install --silent --no-audit --no-fund @modelcontextprotocol/sdk@1.32.2 zod@4 >/dev/null
python3 -m venv venv && venv/bin/pip install --quiet mcp==2.3.0

typescript=$(timeout 60 node client.mjs); python=$(timeout 60 venv/bin/python client.py)
echo "typescript: $typescript"; echo "python: $python"
[ "$typescript" = "accepted, then error -32600" ] && [ "$python" = "RuntimeError, then RuntimeError" ] || { echo "changed" >&2; exit 1; }
