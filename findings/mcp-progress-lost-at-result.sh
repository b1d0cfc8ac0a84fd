#!/usr/bin/env bash
# Guess:     progress that a server sends before its result reaches the caller's progress callback.
# Versions:  @modelcontextprotocol/sdk 1.32.2, @modelcontextprotocol/client 2.4.0 (Node 20 or newer), mcp 2.3.0 (Python 3.10 or newer),
#            github.com/modelcontextprotocol/go-sdk 1.8.0 (Go 1.25 or newer).
# Behaviour: five progress notifications and the result come in one write, as from a server that was quick or a pipe that was full. Both
#            TypeScript clients drop all five: they forget the callback with the result and run notifications a moment later. The Python
#            and Go clients deliver them. A server must repeat in its result whatever matters in its progress, and a caller must
#            not wait for the last step.
# Seen:      notifications heard, of 5: typescript 0, typescript 2: 0, python 5, go 5
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"

cat > server.mjs <<'JS'
import readline from 'node:readline';
const line = (message) => JSON.stringify({ jsonrpc: '2.0', ...message }) + '\n';
readline.createInterface({ input: process.stdin }).on('line', (text) => {
  const { id, method, params } = JSON.parse(text);
  if (method === 'initialize')
    process.stdout.write(
      line({ id, result: { protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 's', version: '1' } } }));
  else if (method === 'tools/list') process.stdout.write(line({ id, result: { tools: [{ name: 'sync', inputSchema: { type: 'object' } }] } }));
  else if (method === 'tools/call') {
    const { progressToken } = params._meta;
    const steps = [1, 2, 3, 4, 5].map((progress) => line({ method: 'notifications/progress', params: { progressToken, progress } }));
    process.stdout.write(steps.join('') + line({ id, result: { content: [{ type: 'text', text: 'done' }] } }));
  } else if (id !== undefined) process.stdout.write(line({ id, error: { code: -32601, message: 'no such method' } }));
});
JS
client() {  # client IMPORT_CLIENT IMPORT_TRANSPORT ARGUMENTS: the same TypeScript client for both packages
  cat <<JS
import { Client } from '$1';
import { StdioClientTransport } from '$2';
const client = new Client({ name: 'c', version: '1' });
await client.connect(new StdioClientTransport({ command: 'node', args: ['server.mjs'] }));
let heard = 0;
await client.callTool({ name: 'sync', arguments: {} }, $3{ onprogress: () => { heard += 1; } });
await new Promise((resolve) => setTimeout(resolve, 1000));
console.log(heard);
await client.close();
JS
}
client @modelcontextprotocol/sdk/client/index.js @modelcontextprotocol/sdk/client/stdio.js 'undefined, ' > one.mjs
client @modelcontextprotocol/client @modelcontextprotocol/client/stdio '' > two.mjs
cat > client.py <<'PY'
import asyncio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

async def main():
    heard = []
    async def note(progress, total, message):
        heard.append(progress)
    async with stdio_client(StdioServerParameters(command="node", args=["server.mjs"])) as (read, write):
        async with ClientSession(read, write) as session:
            await session.initialize()
            await session.call_tool("sync", {}, progress_callback=note)
            await asyncio.sleep(1)
            print(len(heard))

asyncio.run(asyncio.wait_for(main(), 60))
PY
cat > main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"os/exec"
	"sync/atomic"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func main() {
	var heard atomic.Int32
	client := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, &mcp.ClientOptions{
		ProgressNotificationHandler: func(context.Context, *mcp.ProgressNotificationClientRequest) { heard.Add(1) },
	})
	session, err := client.Connect(context.Background(), &mcp.CommandTransport{Command: exec.Command("node", "server.mjs")}, nil)
	if err != nil {
		panic(err)
	}
	defer session.Close()
	params := &mcp.CallToolParams{Name: "sync"}
	params.SetProgressToken("token")
	if _, err := session.CallTool(context.Background(), params); err != nil {
		panic(err)
	}
	time.Sleep(time.Second)
	fmt.Println(heard.Load())
}
GO
npm install --silent --no-audit --no-fund @modelcontextprotocol/sdk@1.32.2 @modelcontextprotocol/client@2.4.0 zod@4 >/dev/null
python3 -m venv venv && venv/bin/pip install --quiet mcp==2.3.0
go mod init finding 2>go.log && go get github.com/modelcontextprotocol/go-sdk/mcp@v1.8.0 2>>go.log && go build -o client . 2>>go.log || { cat go.log >&2; exit 1; }

seen="typescript $(timeout 60 node one.mjs), typescript 2: $(timeout 60 node two.mjs), python $(timeout 60 venv/bin/python client.py), go $(
    timeout 60 ./client)"
echo "notifications heard, of 5: $seen"
[ "$seen" = "typescript 0, typescript 2: 0, python 5, go 5" ] || { echo "changed" >&2; exit 1; }
