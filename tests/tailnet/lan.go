package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	lanUsage = `A local network (-lan):
  attach NAME PID             a cable to the machine of that process; there it is "eth0"
  line NAME MILLISECONDS LOSS  how long a frame travels from there, and which share of them (0..1) never arrives
  pull NAME, plug NAME        the cable
  udp on|off                  whether machines reach each other by UDP; the first one attached is reached always`

	longestFrame = 1 << 16
	// Frames that a cable holds in transit. Further frames are dropped, as by a real switch.
	onTheWay = 4096
)

// lan is an Ethernet switch with a cable to each of several network namespaces. It is a program instead of the kernel's
// bridge with `tc netem` because few kernels include netem, and because a pulled cable then looks pulled to the
// machine.
type lan struct {
	mu    sync.Mutex
	ports []*port
	noUDP bool
}

type port struct {
	name   string
	tap    *os.File
	frames chan frame
	delay  time.Duration
	loss   float64
	pulled bool
}

type frame struct {
	data []byte
	due  time.Time
}

func (l *lan) do(command string, args []string) (string, error) {
	if len(args) == 0 {
		return "", errNoCommand
	}
	if command == "attach" && len(args) == 2 {
		return "", l.attach(args[0], args[1])
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if command == "udp" {
		return "", onOff(args[0], func(on bool) { l.noUDP = !on })
	}
	at := slices.IndexFunc(l.ports, func(p *port) bool { return p.name == args[0] })
	if at < 0 {
		return "", fmt.Errorf("no machine %q", args[0])
	}
	p := l.ports[at]
	switch {
	case command == "line" && len(args) == 3:
		milliseconds, err := strconv.Atoi(args[1])
		loss, err2 := strconv.ParseFloat(args[2], 64)
		p.delay, p.loss = time.Duration(milliseconds)*time.Millisecond, loss
		return "", errors.Join(err, err2)
	case command == "pull", command == "plug":
		p.pulled = command == "pull"
		return "", p.carrier(!p.pulled)
	}
	return "", errNoCommand
}

func (l *lan) attach(name, pid string) error {
	tap, err := tapIn("/proc/" + pid + "/ns/net")
	if err != nil {
		return err
	}
	p := &port{name: name, tap: tap, frames: make(chan frame, onTheWay)}
	l.mu.Lock()
	l.ports = append(l.ports, p)
	l.mu.Unlock()
	go p.deliver()
	go l.forward(p)
	return nil
}

// tapIn creates an interface "eth0" in a network namespace and returns its other end as a file.
func tapIn(namespace string) (*os.File, error) {
	ns, err := os.Open(namespace)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	made, failed := make(chan *os.File, 1), make(chan error, 1)
	go func() {
		// The thread stays in the namespace, and ends with this function because it is never unlocked.
		runtime.LockOSThread()
		tap, err := func() (*os.File, error) {
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return nil, err
			}
			fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
			if err != nil {
				return nil, err
			}
			request, err := unix.NewIfreq("eth0")
			if err != nil {
				return nil, err
			}
			request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
			// Before this call, the runtime cannot poll the file descriptor.
			if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
				return nil, err
			}
			return os.NewFile(uintptr(fd), "eth0"), nil
		}()
		made <- tap
		failed <- err
	}()
	return <-made, <-failed
}

func (p *port) carrier(on bool) error {
	value := 0
	if on {
		value = 1
	}
	raw, err := p.tap.SyscallConn()
	if err != nil {
		return err
	}
	err2 := raw.Control(func(fd uintptr) { err = unix.IoctlSetPointerInt(int(fd), unix.TUNSETCARRIER, value) })
	return errors.Join(err, err2)
}

// deliver passes frames to the machine in order, each after its travel time.
func (p *port) deliver() {
	for frame := range p.frames {
		time.Sleep(time.Until(frame.due))
		p.tap.Write(frame.data)
	}
}

// forward sends each frame of a machine to every other one, which itself ignores frames for others.
func (l *lan) forward(from *port) {
	chance := rand.New(rand.NewPCG(1, 2))
	var buffer [longestFrame]byte
	for {
		n, err := from.tap.Read(buffer[:])
		if err != nil && !errors.Is(err, unix.EIO) {
			return
		}
		l.mu.Lock()
		if n > 0 && !from.pulled && chance.Float64() >= from.loss {
			whole := frame{slices.Clone(buffer[:n]), time.Now().Add(from.delay)}
			for i, to := range l.ports {
				if to == from || to.pulled || (l.noUDP && udp(whole.data) && i > 0 && from != l.ports[0]) {
					continue
				}
				select {
				case to.frames <- whole:
				default:
				}
			}
		}
		l.mu.Unlock()
	}
}

// udp reports whether a frame carries UDP over IPv4.
func udp(data []byte) bool {
	return len(data) > 23 && data[12] == 8 && data[13] == 0 && data[23] == 17
}
