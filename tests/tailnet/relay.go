package main

import (
	"crypto/tls"
	"errors"
	"log"
	"net"
	"net/http"
	"net/http/httptest"

	"tailscale.com/derp/derpserver"
	"tailscale.com/net/stun"
	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
)

// relay is a DERP server that keeps its address and key while it is stopped and started, with a STUN server that always
// runs.
type relay struct {
	address string
	key     key.NodePrivate
	stun    *net.UDPConn
	derp    *derpserver.Server
	https   *httptest.Server
}

func newRelay(ip string) (*relay, error) {
	stun, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(ip)})
	if err != nil {
		return nil, err
	}
	r := &relay{address: net.JoinHostPort(ip, "0"), key: key.NewNode(), stun: stun}
	go r.answerSTUN()
	return r, r.turn("start")
}

func (r *relay) turn(to string) error {
	switch {
	case to == "stop" && r.https != nil:
		r.derp.Close()
		r.https.CloseClientConnections()
		r.https.Close()
		r.https = nil
	case to == "start" && r.https == nil:
		listener, err := net.Listen("tcp", r.address)
		if err != nil {
			return err
		}
		r.address = listener.Addr().String()
		r.derp = derpserver.New(r.key, log.Printf)
		r.https = httptest.NewUnstartedServer(derpserver.Handler(r.derp))
		r.https.Listener.Close()
		r.https.Listener = listener
		r.https.Config.ErrorLog = log.Default()
		// DERP takes over the connection, which HTTP/2 does not allow.
		r.https.Config.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
		r.https.StartTLS()
	default:
		return errors.New("stop a relay that runs, or start one that does not")
	}
	return nil
}

func (r *relay) answerSTUN() {
	var packet [1500]byte
	for {
		n, from, err := r.stun.ReadFromUDPAddrPort(packet[:])
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if id, err := stun.ParseBindingRequest(packet[:n]); err == nil {
			r.stun.WriteToUDPAddrPort(stun.Response(id, from), from)
		}
	}
}

// region returns a DERP map that contains only this relay.
func (r *relay) region() *tailcfg.DERPMap {
	at := r.https.Listener.Addr().(*net.TCPAddr)
	ip := at.IP.String()
	return &tailcfg.DERPMap{Regions: map[int]*tailcfg.DERPRegion{1: {RegionID: 1, RegionCode: "test", Nodes: []*tailcfg.DERPNode{{
		Name: "1a", RegionID: 1, HostName: ip, IPv4: ip, IPv6: "none", DERPPort: at.Port,
		STUNPort: r.stun.LocalAddr().(*net.UDPAddr).Port, STUNTestIP: ip, InsecureForTests: true,
	}}}}}
}
