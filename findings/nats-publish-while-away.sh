#!/usr/bin/env bash
# Guess:     what a NATS client publishes while its server is away, without an error, is sent once the client has connected again; the
#            clients of one project do the same.
# Versions:  github.com/nats-io/nats.go 1.55.0, nats-server 2.15.3 (Go 1.25 or newer), @nats-io/transport-node 3.4.0 (Node 20 or newer),
#            nats-py 2.16.0 (Python 3.10 or newer), Linux, root.
# Behaviour: the Go and Python clients keep it and send it. The one for Node takes it without an error too, but empties its buffer before
#            each try to connect, so that it is lost. Only a `flush` after the publish would be told, by an error. Messages from
#            before and after arrive with all three, and the subscription is there again.
# Seen:      go: before during after / node: before after / python: before during after
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"; mkdir go node python

# Each client subscribes and publishes to itself. It goes on when a file is there, and says by another one how far it is.
cat > main.go <<'GO'
package main

import (
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	connection, err := nats.Connect("nats://127.0.0.1:4222", nats.ReconnectWait(500*time.Millisecond), nats.MaxReconnects(-1))
	must(err)
	_, err = connection.Subscribe("mail", func(message *nats.Msg) { fmt.Print(string(message.Data), " ") })
	must(err)
	must(connection.Publish("mail", []byte("before")))
	must(connection.Flush())
	wait := func(said, awaited string) {
		must(os.WriteFile("go/"+said, nil, 0o600))
		for _, err := os.Stat("go/" + awaited); err != nil; _, err = os.Stat("go/" + awaited) {
			time.Sleep(100 * time.Millisecond)
		}
	}
	wait("connected", "away")
	must(connection.Publish("mail", []byte("during")))
	wait("published", "back")
	for !connection.IsConnected() {
		time.Sleep(100 * time.Millisecond)
	}
	must(connection.Publish("mail", []byte("after")))
	must(connection.Flush())
	time.Sleep(time.Second)
}
GO
cat > client.mjs <<'JS'
import fs from 'node:fs';
import { connect } from '@nats-io/transport-node';
const sleep = (time) => new Promise((resolve) => setTimeout(resolve, time));
const connection = await connect({ servers: '127.0.0.1:4222', reconnectTimeWait: 500, maxReconnectAttempts: -1 });
let again = false;
(async () => { for await (const { type } of connection.status()) again ||= type === 'reconnect'; })();
const heard = [];
connection.subscribe('mail', { callback: (error, message) => heard.push(message.string()) });
connection.publish('mail', 'before');
await connection.flush();
const wait = async (said, awaited) => {
  fs.writeFileSync(`node/${said}`, '');
  while (!fs.existsSync(`node/${awaited}`)) await sleep(100);
};
await wait('connected', 'away');
connection.publish('mail', 'during');
await wait('published', 'back');
while (!again) await sleep(100);
connection.publish('mail', 'after');
await connection.flush();
await sleep(1000);
console.log(heard.join(' '));
await connection.close();
JS
cat > client.py <<'PY'
import asyncio, os
import nats

async def wait(said, awaited):
    open(f"python/{said}", "w").close()
    while not os.path.exists(f"python/{awaited}"):
        await asyncio.sleep(0.1)

async def main():
    heard = []
    async def hear(message):
        heard.append(message.data.decode())
    async def ignore(error):
        pass
    connection = await nats.connect("nats://127.0.0.1:4222", reconnect_time_wait=0.5, max_reconnect_attempts=-1, error_cb=ignore)
    await connection.subscribe("mail", cb=hear)
    await connection.publish("mail", b"before")
    await connection.flush()
    await wait("connected", "away")
    await connection.publish("mail", b"during")
    await wait("published", "back")
    while not connection.is_connected:
        await asyncio.sleep(0.1)
    await connection.publish("mail", b"after")
    await connection.flush()
    await asyncio.sleep(1)
    print(*heard)
    await connection.close()

asyncio.run(asyncio.wait_for(main(), 60))
PY
cat > play.sh <<'SH'
ip link set lo up
start() { ./nats-server -a 127.0.0.1 >>server.log 2>&1 & server=$!; sleep 2; }
await() { for _ in $(seq 200); do [ ! -e "$1" ] || return 0; sleep 0.1; done; echo "no $1" >&2; return 1; }
play() {  # play NAME COMMAND...: the server is away for some seconds, longer than the client waits between two tries
  timeout 90 "${@:2}" >"$1/seen" 2>"$1/log" & client=$!
  await "$1/connected" && kill "$server" && wait "$server"
  sleep 1; touch "$1/away"
  await "$1/published" && sleep 2 && start && touch "$1/back"
  wait "$client" || cat "$1/log" >&2
  echo "$1: $(xargs <"$1/seen")"
}
start
play go ./client
play node node client.mjs
play python venv/bin/python client.py
kill "$server"
SH
GOBIN=$dir go install github.com/nats-io/nats-server/v2@v2.15.3 2>go.log || { cat go.log >&2; exit 1; }
npm install --silent --no-audit --no-fund @nats-io/transport-node@3.4.0 >/dev/null
python3 -m venv venv && venv/bin/pip install --quiet nats-py==2.16.0
go mod init finding 2>go.log && go get github.com/nats-io/nats.go@v1.55.0 2>>go.log && go build -o client main.go 2>>go.log || { cat go.log >&2; exit 1; }
seen=$(unshare --net --pid --fork --kill-child bash play.sh)
echo "$seen"
[ "$seen" = "go: before during after
node: before after
python: before during after" ] || { echo "changed" >&2; exit 1; }
