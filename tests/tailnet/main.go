// A tailnet without the internet, for Thrum's tests and for manual trials: coordination server, relay (DERP) and STUN
// in one process. Everything is in memory, so a new process is a new tailnet.
//
// To try it on your own machine, with two repositories and two private nodes (it prints what to put into each .env):
//
//	tests/tailnet/up
//
// The tests (crates/thrum/tests/tailnet) start it as a child process. When it is ready, it prints one line of JSON,
// {"control": URL, "relay": "IP:PORT", "stun": "IP:PORT"}. It then reads one command per line from standard input and
// answers each with one line: "ok", "ok DATA" or "error: WHY". It exits when standard input ends.
//
// With -lan it is a local network between network namespaces instead (see lan.go). That is a separate process, because
// tests simulate an outage of the coordination server by stopping (SIGSTOP) and continuing its process.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"

	"tailscale.com/tstest/integration/testcontrol"
)

func main() {
	address := flag.String("address", "127.0.0.1", "listen on this `IP`")
	port := flag.Int("port", 0, "the coordination server's port; 0: any")
	authKey := flag.String("auth-key", "", "register only nodes with this `KEY`, also known ones that start again")
	play := flag.Bool("play", false, "print what a person needs, not JSON")
	tailscaled := flag.String("tailscaled", "", "with -play: the program of private nodes")
	onlyLAN := flag.Bool("lan", false, "be a local network between network namespaces instead")
	verbose := flag.Bool("verbose", false, "log to standard error")
	flag.Parse()
	if !*verbose {
		log.SetOutput(io.Discard)
	}
	var err error
	if *onlyLAN {
		fmt.Println("{}")
		err = obey((&lan{}).do)
	} else {
		err = run(*address, *port, *authKey, *play, *tailscaled)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tailnet:", err)
		os.Exit(1)
	}
}

const howToPlay = `A tailnet. It ends, and forgets everything, with Ctrl-D. Into the .env of each repository, with another name:

THRUM_TS_ENABLED=true
THRUM_TS_HOSTNAME=my-laptop
THRUM_TS_AUTHKEY=tskey-auth-xxxxx
THRUM_TS_CONTROL_URL=%s

And in the shell, because no file may choose a program:

export THRUM_TS_TAILSCALED=%s

Then "thrum daemon restart" in each, "thrum peer add" in one and "thrum peer join" in the other. Any key will do.
Commands, one a line, do what happens to tailnets; "help" lists them.
`

func run(address string, port int, authKey string, play bool, tailscaled string) error {
	relay, err := newRelay(address)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", fmt.Sprintf("%s:%d", address, port))
	if err != nil {
		return err
	}
	tracked := &connections{Listener: listener, open: map[net.Conn]struct{}{}}
	url := "http://" + listener.Addr().String()
	control := &testcontrol.Server{
		Logf:             log.Printf,
		DERPMap:          relay.region(),
		RequireAuthKey:   authKey,
		ExplicitBaseURL:  url,
		AllNodesSameUser: true,
		AllOnline:        true,
		MagicDNSDomain:   "tailnet.test",
	}
	go http.Serve(tracked, control)
	tailnet := &tailnet{control: control, relay: relay, connections: tracked}

	if play {
		fmt.Printf(howToPlay, url, tailscaled)
	} else if err := json.NewEncoder(os.Stdout).Encode(map[string]string{
		"control": url, "relay": relay.address, "stun": relay.stun.LocalAddr().String(),
	}); err != nil {
		return err
	}
	return obey(tailnet.do)
}

// obey executes commands from standard input until it ends.
func obey(do func(command string, args []string) (string, error)) error {
	commands := bufio.NewScanner(os.Stdin)
	for commands.Scan() {
		words := strings.Fields(commands.Text())
		if len(words) == 0 {
			continue
		}
		if words[0] == "help" {
			fmt.Println(usage + "\n" + lanUsage)
			continue
		}
		if data, err := do(words[0], words[1:]); err != nil {
			fmt.Println("error:", err)
		} else {
			fmt.Println(strings.TrimSpace("ok " + data))
		}
	}
	return commands.Err()
}

// connections is a listener that can break all its connections, as a restarting coordination server would.
type connections struct {
	net.Listener
	mu   sync.Mutex
	open map[net.Conn]struct{}
}

type connection struct {
	net.Conn
	of *connections
}

func (c *connections) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tracked := &connection{conn, c}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[tracked] = struct{}{}
	return tracked, nil
}

func (c *connection) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

func (c *connections) breakAll() {
	c.mu.Lock()
	open := c.open
	c.open = map[net.Conn]struct{}{}
	c.mu.Unlock()
	for conn := range open {
		conn.Close()
	}
}
