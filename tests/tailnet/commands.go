package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"time"

	"tailscale.com/net/tsaddr"
	"tailscale.com/tailcfg"
	"tailscale.com/tstest/integration/testcontrol"
	"tailscale.com/types/key"
)

var errNoCommand = errors.New("no such command; \"help\" lists them")

const usage = `A tailnet:
  nodes                     every node as JSON
  require-auth on|off       new nodes have to visit a login page
  require-key KEY|-         whoever registers needs this auth key (-: none), also a known node that starts again,
                            which real servers let in; only while none registers
  require-approval on|off   new nodes wait for an administrator
  visit URL                 what a person does at the login page
  approve NAME              what the administrator does
  expire NAME, renew NAME   the node's key
  expire-all on|off         every node's key
  move NAME                 another address for the node
  delete NAME               the node is not of this tailnet any more; only for the one that registered last
  break                     break the connections of all nodes with the coordination server
  relay stop|start`

type tailnet struct {
	control     *testcontrol.Server
	relay       *relay
	connections *connections
	moved       int
}

func (t *tailnet) do(command string, args []string) (string, error) {
	arg := strings.Join(args, " ")
	switch command {
	case "nodes":
		return t.list()
	case "require-auth":
		return "", onOff(arg, func(on bool) { t.control.RequireAuth = on })
	case "require-key":
		t.control.RequireAuthKey = strings.TrimPrefix(arg, "-")
		return "", nil
	case "require-approval":
		return "", onOff(arg, func(on bool) { t.control.RequireMachineAuth = on })
	case "visit":
		if !t.control.CompleteAuth(arg) {
			return "", errors.New("nobody was given this address")
		}
		return "", nil
	case "expire-all":
		return "", onOff(arg, t.control.SetExpireAllNodes)
	case "approve", "expire", "renew", "move", "delete":
		return "", t.change(command, arg)
	case "break":
		t.connections.breakAll()
		return "", nil
	case "relay":
		return "", t.relay.turn(arg)
	}
	return "", errNoCommand
}

func (t *tailnet) list() (string, error) {
	type node struct {
		Name      string         `json:"name"`
		ID        string         `json:"id"`
		Addresses []netip.Prefix `json:"addresses"`
		Relay     int            `json:"relay"`
	}
	nodes := []node{}
	for _, n := range t.control.AllNodes() {
		nodes = append(nodes, node{hostname(n), string(n.StableID), n.Addresses, n.HomeDERP})
	}
	data, err := json.Marshal(nodes)
	return string(data), err
}

func (t *tailnet) change(command, name string) error {
	for _, n := range t.control.AllNodes() {
		if hostname(n) != name {
			continue
		}
		switch command {
		case "approve":
			n.MachineAuthorized = true
		case "expire":
			n.KeyExpiry = time.Now().Add(-time.Minute)
		case "renew":
			n.KeyExpiry = time.Time{}
		case "move":
			// The server derives the node's own view of its address from its ID. A node with a stream under the old ID has to
			// reconnect.
			t.moved++
			n.ID = tailcfg.NodeID(0x4000 + t.moved)
			v4 := netip.AddrFrom4([4]byte{100, 64, byte(n.ID >> 8), byte(n.ID)})
			n.Addresses = []netip.Prefix{netip.PrefixFrom(v4, 32), netip.PrefixFrom(tsaddr.Tailscale4To6(v4), 128)}
			n.AllowedIPs = n.Addresses
			defer t.connections.breakAll()
		case "delete":
			defer t.connections.breakAll()
			t.forget(n.Key)
			return nil
		}
		t.control.UpdateNode(n)
		return nil
	}
	return fmt.Errorf("no node %q", name)
}

// forget removes a node from the server, which has no function for that. The server numbers a new node by how many it
// holds, so a node that registers afterwards gets the ID of the last remaining one, unless the removed node was the
// last.
func (t *tailnet) forget(node key.NodePublic) {
	server := reflect.ValueOf(t.control).Elem()
	mu := (*sync.Mutex)(server.FieldByName("mu").Addr().UnsafePointer())
	nodes := (*map[key.NodePublic]*tailcfg.Node)(server.FieldByName("nodes").Addr().UnsafePointer())
	mu.Lock()
	defer mu.Unlock()
	delete(*nodes, node)
}

// hostname returns the node's own name for itself, not the one that the coordination server assigned.
func hostname(n *tailcfg.Node) string {
	name, _, _ := strings.Cut(n.Name, ".")
	return name
}

func onOff(arg string, set func(bool)) error {
	if arg != "on" && arg != "off" {
		return errors.New("on or off?")
	}
	set(arg == "on")
	return nil
}
