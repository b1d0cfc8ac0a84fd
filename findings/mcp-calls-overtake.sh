#!/usr/bin/env bash
# Guess:     calls that a client writes one after the other on one stdio connection begin in that order, so two messages sent without
#            waiting keep their order; only their ends may cross.
# Versions:  @modelcontextprotocol/sdk 1.32.2 (Node 20 or newer), mcp 2.3.0 (Python 3.10 or newer), github.com/modelcontextprotocol/go-sdk
#            1.8.0 (Go 1.25 or newer), rmcp 3.11.0 (Rust 1.88 or newer), two or more cores.
# Behaviour: a tool notes its argument as the first thing it does, and gets 1,000 calls at once, up to five times. The TypeScript server
#            and Python's async tools begin them in order. The Go and Rust servers, and a Python tool that is a plain function (it runs
#            in a thread), begin some before earlier ones. A mailbox has to take the order from a number in the call, or the client
#            has to wait for each answer.
# Seen:      typescript: in order / python async: in order / python plain: mixed / go: mixed / rust: mixed
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"

cat > server.mjs <<'JS'
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js';
import { z } from 'zod';
const order = [];
const answer = (text) => ({ content: [{ type: 'text', text }] });
const server = new McpServer({ name: 's', version: '1' });
server.registerTool('send', { inputSchema: { number: z.number() } }, async ({ number }) => { order.push(number); return answer('sent'); });
server.registerTool('order', {}, async () => answer(JSON.stringify(order)));
await server.connect(new StdioServerTransport());
JS
cat > server.py <<'PY'
import json, sys
from mcp.server import MCPServer

server, numbers = MCPServer("s"), []
if sys.argv[1] == "async":
    @server.tool()
    async def send(number: int) -> str:
        numbers.append(number)
        return "sent"
else:
    @server.tool()
    def send(number: int) -> str:
        numbers.append(number)
        return "sent"

@server.tool()
async def order() -> str:
    return json.dumps(numbers)

server.run("stdio")
PY
mkdir -p go rust/src
cat > go/main.go <<'GO'
package main

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

type message struct {
	Number int `json:"number"`
}

func main() {
	var mutex sync.Mutex
	var numbers []int
	server := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
	answer := func(text string) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}, nil, nil
	}
	mcp.AddTool(server, &mcp.Tool{Name: "send"}, func(_ context.Context, _ *mcp.CallToolRequest, m message) (*mcp.CallToolResult, any, error) {
		mutex.Lock()
		defer mutex.Unlock()
		numbers = append(numbers, m.Number)
		return answer("sent")
	})
	mcp.AddTool(server, &mcp.Tool{Name: "order"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		mutex.Lock()
		defer mutex.Unlock()
		text, _ := json.Marshal(numbers)
		return answer(string(text))
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
tokio = { version = "1", features = ["rt-multi-thread", "macros"] }
[workspace]
TOML
cat > rust/src/main.rs <<'RS'
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt, model::*, service::RequestContext, transport::stdio};
use std::sync::Mutex;

struct Server(Mutex<Vec<i64>>);

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(&self, call: CallToolRequestParams, _: RequestContext<RoleServer>) -> Result<CallToolResponse, ErrorData> {
        let mut numbers = self.0.lock().unwrap();
        let text = match call.arguments.and_then(|arguments| arguments.get("number")?.as_i64()) {
            Some(number) => {
                numbers.push(number);
                "sent".into()
            }
            None => format!("{numbers:?}"),
        };
        Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
    }
}

#[tokio::main]
async fn main() {
    Server(Mutex::default()).serve(stdio()).await.unwrap().waiting().await.unwrap();
}
RS
cat > order.py <<'PY'
import json, subprocess, sys

server = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

def ask(*requests):
    """Writes all requests at once and returns the results by id."""
    server.stdin.write("".join(json.dumps({"jsonrpc": "2.0", **request}) + "\n" for request in requests))
    server.stdin.flush()
    left, results = {request["id"] for request in requests if "id" in request}, {}
    while left:
        message = json.loads(server.stdout.readline())
        if message.get("id") in left and "method" not in message:
            left.remove(message["id"])
            results[message["id"]] = message["result"]
    return results

def call(id, name, **arguments):
    return {"id": id, "method": "tools/call", "params": {"name": name, "arguments": arguments}}

ask({"id": 0, "method": "initialize", "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}})
ask({"method": "notifications/initialized"}, *(call(id, "send", number=id) for id in range(1, 1001)))
seen = json.loads(ask(call(2000, "order"))[2000]["content"][0]["text"])
assert sorted(seen) == list(range(1, 1001))
print("in order" if seen == sorted(seen) else "mixed")
server.stdin.close()
server.wait(10)
PY
npm install --silent --no-audit --no-fund @modelcontextprotocol/sdk@1.32.2 zod@4 >/dev/null
python3 -m venv venv && venv/bin/pip install --quiet mcp==2.3.0
(cd go && go mod init finding && go get github.com/modelcontextprotocol/go-sdk/mcp@v1.8.0 && go build -o server .) >log 2>&1 || { cat log >&2; exit 1; }
(cd rust && CARGO_TARGET_DIR=target cargo build --quiet) >log 2>&1 || { cat log >&2; exit 1; }

order() {  # order COMMAND...: "mixed" if one of five rounds was
  local seen
  for _ in 1 2 3 4 5; do
    seen=$(timeout 90 python3 order.py "$@")
    [ "$seen" = "in order" ] || break
  done
  echo "$seen"
}
seen="typescript: $(order node server.mjs) / python async: $(order venv/bin/python server.py async) / python plain: $(
    order venv/bin/python server.py plain) / go: $(order go/server) / rust: $(order rust/target/debug/finding)"
echo "$seen"
[ "$seen" = "typescript: in order / python async: in order / python plain: mixed / go: mixed / rust: mixed" ] || { echo "changed" >&2; exit 1; }
