#!/usr/bin/env bash
# Guess:     closing a node ends its connections, and the other side reads the end or a reset, as when a process with kernel sockets exits.
# Versions:  tailscale.com 1.98.0 (package tsnet, Go 1.26.2 or newer, Linux, root).
# Behaviour: `Server.Close` takes the node's network stack away with its connections still open. The peer's read stays silent: here
#            for 20 seconds, in a longer run for nine minutes. Only what the program closed itself beforehand is seen, so a program has
#            to close every connection before the node, and a peer needs a time limit or a heartbeat of its own on every read.
# Seen:      connection closed, then the node: EOF / node closed: silence
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"

cat > main.go <<'GO'
// Two nodes of a tailnet whose control server and relay are in this process.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"tailscale.com/derp/derpserver"
	"tailscale.com/tailcfg"
	"tailscale.com/tsnet"
	"tailscale.com/tstest/integration/testcontrol"
	"tailscale.com/types/key"
	"tailscale.com/types/logger"
)

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	return value
}

func main() {
	log.SetOutput(io.Discard)
	relay := httptest.NewUnstartedServer(derpserver.Handler(derpserver.New(key.NewNode(), logger.Discard)))
	relay.Config.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
	relay.StartTLS()
	node := &tailcfg.DERPNode{Name: "r", RegionID: 1, HostName: "127.0.0.1", IPv4: "127.0.0.1", IPv6: "none", STUNPort: -1,
		DERPPort: relay.Listener.Addr().(*net.TCPAddr).Port, InsecureForTests: true}
	control := &testcontrol.Server{DERPMap: &tailcfg.DERPMap{Regions: map[int]*tailcfg.DERPRegion{
		1: {RegionID: 1, RegionCode: "r", Nodes: []*tailcfg.DERPNode{node}}}}}
	web := httptest.NewServer(control)
	control.ExplicitBaseURL = web.URL

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	start := func(name string) (*tsnet.Server, string) {
		server := &tsnet.Server{Dir: must(os.MkdirTemp(".", name)), Hostname: name, ControlURL: web.URL, Logf: logger.Discard}
		return server, must(server.Up(ctx)).TailscaleIPs[0].String()
	}
	ann, _ := start("ann")
	// what ann reads after ben has ended
	read := func(name string, closeFirst bool) string {
		ben, address := start(name)
		listener := must(ben.Listen("tcp", ":80"))
		caller := must(ann.Dial(ctx, "tcp", address+":80"))
		called := must(listener.Accept())
		must(caller.Write([]byte("hello")))
		must(io.ReadFull(called, make([]byte, 5)))
		if closeFirst {
			called.Close()
			time.Sleep(time.Second)
		}
		ben.Close()
		caller.SetReadDeadline(time.Now().Add(20 * time.Second))
		_, err := caller.Read(make([]byte, 1))
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			return "silence"
		}
		return fmt.Sprint(err)
	}
	fmt.Printf("connection closed, then the node: %s / ", read("ben", true))
	fmt.Printf("node closed: %s\n", read("cid", false))
}
GO
export CGO_ENABLED=0
go mod init finding 2>go.log && go get tailscale.com/{tsnet,derp/derpserver,tstest/integration/testcontrol}@v1.98.0 2>>go.log &&
    go build -o nodes . 2>>go.log || { cat go.log >&2; exit 1; }

# A namespace whose one interface leads nowhere: a node that finds only loopback does not start.
seen=$(unshare --net sh -c 'ip link set lo up; ip link add here type veth peer name there
    ip address add 192.0.2.1/24 dev here; ip link set there up; ip link set here up; ip route add default via 192.0.2.2
    exec timeout 150 env -i PATH="$PATH" HOME="$1" ./nodes' sh "$dir" || true)
echo "$seen"
[ "$seen" = "connection closed, then the node: EOF / node closed: silence" ] || { echo "changed" >&2; exit 1; }
