package harness

import (
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
)

const (
	// Ports below the kernel's ephemeral range (32768 and up on Linux): no outgoing connection can take the port of a node
	// that is down, so a node always comes back on its own ports.
	firstPort = 18000
	lastPort  = 32000
)

// portSource hands out ports that nobody listens on. Two test processes start at different places and probe, so they rarely
// meet; a node whose port was taken meanwhile fails to start and says so.
type portSource struct {
	mu   sync.Mutex
	next int // guarded by mu
}

// newPortSource starts where the process id says.
func newPortSource() *portSource {
	return &portSource{next: firstPort + os.Getpid()*97%(lastPort-firstPort)}
}

// FreePort returns a loopback port that nobody listens on, and that no outgoing connection takes.
func FreePort() (int, error) { return ports.free() }

// Port is free for a test.
func (p *portSource) Port(tb testing.TB) int {
	tb.Helper()
	port, err := p.free()
	if err != nil {
		tb.Fatal(err)
	}
	return port
}

func (p *portSource) free() (int, error) {
	for range lastPort - firstPort {
		port := p.advance()
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		_ = l.Close()
		return port, nil
	}
	return 0, fmt.Errorf("no free port from %d to %d", firstPort, lastPort)
}

func (p *portSource) advance() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	port := p.next
	p.next++
	if p.next >= lastPort {
		p.next = firstPort
	}
	return port
}
