#!/usr/bin/env bash
# Guess:     a client that closes the standard input of a server has no more requests, as `printf … | server` in a script or a test;
#            the call that is under way is answered, and then the server ends.
# Versions:  @modelcontextprotocol/sdk 1.32.2, @modelcontextprotocol/server 2.4.0 (Node 20 or newer), mcp 2.3.0 (Python 3.10 or newer),
#            github.com/modelcontextprotocol/go-sdk 1.8.0 (Go 1.25 or newer), rmcp 3.11.0 (Rust 1.88 or newer).
# Behaviour: only the first TypeScript package and the Rust one answer. Go and an async tool in Python are cancelled. The tool of
#            TypeScript 2 and a plain function in Python run to their end, but their answer is dropped: a message is stored and the
#            sender does not hear of it. A client has to keep the input open until it has its answers, and sending must be safe to
#            repeat.
# Seen:      typescript: answered, ran / typescript 2: silent, ran / python async: error -32000, stopped / python plain: silent, ran /
#            go: silent, stopped / rust: answered, ran
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"

server() {  # server IMPORT_SERVER IMPORT_TRANSPORT: the same TypeScript server for both packages
  cat <<JS
import { writeFileSync } from 'node:fs';
import { McpServer } from '$1';
import { StdioServerTransport } from '$2';
const server = new McpServer({ name: 's', version: '1' });
server.registerTool('send', {}, async () => {
  await new Promise((resolve) => setTimeout(resolve, 1500));
  writeFileSync('ran', '');
  return { content: [{ type: 'text', text: 'sent' }] };
});
await server.connect(new StdioServerTransport());
JS
}
server @modelcontextprotocol/sdk/server/mcp.js @modelcontextprotocol/sdk/server/stdio.js > one.mjs
server @modelcontextprotocol/server @modelcontextprotocol/server/stdio > two.mjs
cat > server.py <<'PY'
import asyncio, sys, time
from mcp.server import MCPServer

server = MCPServer("s")
if sys.argv[1] == "async":
    @server.tool()
    async def send() -> str:
        await asyncio.sleep(1.5)
        open("ran", "w").close()
        return "sent"
else:
    @server.tool()
    def send() -> str:
        time.sleep(1.5)
        open("ran", "w").close()
        return "sent"
server.run("stdio")
PY
mkdir -p go rust/src
cat > go/main.go <<'GO'
package main

import (
	"context"
	"os"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func main() {
	server := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "send"}, func(ctx context.Context, _ *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		select {
		case <-time.After(1500 * time.Millisecond):
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
		os.WriteFile("ran", nil, 0o600)
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "sent"}}}, nil, nil
	})
	server.Run(context.Background(), &mcp.StdioTransport{})
}
GO
cat > rust/Cargo.toml <<'TOML'
[package]
name = "finding"
edition = "2024"
[dependencies]
rmcp = { version = "=3.11.0", features = ["server", "transport-io"] }
tokio = { version = "1", features = ["rt-multi-thread", "macros", "time"] }
[workspace]
TOML
cat > rust/src/main.rs <<'RS'
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt, model::*, service::RequestContext, transport::stdio};
use std::time::Duration;

struct Server;

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(&self, _: CallToolRequestParams, context: RequestContext<RoleServer>) -> Result<CallToolResponse, ErrorData> {
        tokio::select! {
            _ = tokio::time::sleep(Duration::from_millis(1500)) => std::fs::write("ran", "").unwrap(),
            _ = context.ct.cancelled() => {}
        }
        Ok(CallToolResult::success(vec![ContentBlock::text("sent")]).into())
    }
}

#[tokio::main]
async fn main() {
    Server.serve(stdio()).await.unwrap().waiting().await.unwrap();
}
RS
cat > close.py <<'PY'
import json, os, subprocess, sys, time

server = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

def write(**message):
    server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    server.stdin.flush()

write(id=0, method="initialize", params={"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}})
server.stdout.readline()
write(method="notifications/initialized")
write(id=1, method="tools/call", params={"name": "send", "arguments": {}})
time.sleep(0.5)  # the call has begun
server.stdin.close()
answer = "silent"
for line in server.stdout:
    message = json.loads(line)
    if message.get("id") == 1:
        answer = f"error {message['error']['code']}" if "error" in message else "answered"
server.wait(10)
print(answer + ", " + ("ran" if os.path.exists("ran") else "stopped"))
PY
npm install --silent --no-audit --no-fund @modelcontextprotocol/sdk@1.32.2 @modelcontextprotocol/server@2.4.0 zod@4 >/dev/null
python3 -m venv venv && venv/bin/pip install --quiet mcp==2.3.0
(cd go && go mod init finding && go get github.com/modelcontextprotocol/go-sdk/mcp@v1.8.0 && go build -o server .) >log 2>&1 || { cat log >&2; exit 1; }
(cd rust && CARGO_TARGET_DIR=target cargo build --quiet) >log 2>&1 || { cat log >&2; exit 1; }

close() { rm -f ran; timeout 60 python3 close.py "$@"; }
check() {  # check NAME EXPECTED COMMAND...
  local seen; seen=$(close "${@:3}")
  echo "$1: $seen"
  [ "$seen" = "$2" ] || { echo "changed" >&2; exit 1; }
}
check typescript "answered, ran" node one.mjs
check "typescript 2" "silent, ran" node two.mjs
check "python async" "error -32000, stopped" venv/bin/python server.py async
check "python plain" "silent, ran" venv/bin/python server.py plain
check go "silent, stopped" go/server
check rust "answered, ran" rust/target/debug/finding
