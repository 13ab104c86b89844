package transporttest

import (
	"net"
	"strconv"
	"sync"
	"time"
)

// Hub is a whole network. All nodes reach each other until told otherwise.
// Its methods may be called at any time, from any goroutine.
type Hub struct {
	mu    sync.Mutex
	hosts map[string]*host
	links map[[2]string]*link // from, to
}

// host is a machine: what survives the death of its process is its name.
type host struct {
	name string

	// Guarded by Hub.mu.
	gen       int           // grows at each death; a Node of an older one is void
	off       bool          // without power
	back      chan struct{} // closed when power comes back; nil while on
	listeners map[int]*listener
	conns     map[*conn]struct{}
	orphans   []*conn // remote ends of connections that power loss cut off
	nextPort  int
}

// NewHub returns a network without delays and faults.
func NewHub() *Hub {
	return &Hub{hosts: map[string]*host{}, links: map[[2]string]*link{}}
}

// Node returns the network as a newly started process on this host sees it.
// Take a new one after Kill or PowerOff: the old one stays dead.
func (h *Hub) Node(name string) *Node {
	h.mu.Lock()
	defer h.mu.Unlock()
	hs := h.hostLocked(name)
	return &Node{hub: h, host: hs, gen: hs.gen}
}

func (h *Hub) hostLocked(name string) *host {
	hs := h.hosts[name]
	if hs == nil {
		hs = &host{name: name, listeners: map[int]*listener{}, conns: map[*conn]struct{}{}, nextPort: 40000}
		h.hosts[name] = hs
	}
	return hs
}

func (h *Hub) link(from, to string) *link {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := [2]string{from, to}
	k := h.links[key]
	if k == nil {
		k = newLink(uint64(len(h.links) + 1))
		h.links[key] = k
	}
	return k
}

// names returns all hosts but one.
func (h *Hub) names(except string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for n := range h.hosts {
		if n != except {
			out = append(out, n)
		}
	}
	return out
}

// Cut holds all bytes and connection attempts from one node to another, until
// Heal. The other direction is left alone.
func (h *Hub) Cut(from, to string) { h.link(from, to).update(func(k *link) { k.cut = true }) }

// Heal ends Cut: what was held is delivered.
func (h *Hub) Heal(from, to string) { h.link(from, to).update(func(k *link) { k.cut = false }) }

// HealAll ends all cuts. Delays and bandwidths stay.
func (h *Hub) HealAll() {
	h.mu.Lock()
	all := make([]*link, 0, len(h.links))
	for _, k := range h.links {
		all = append(all, k)
	}
	h.mu.Unlock()
	for _, k := range all {
		k.update(func(k *link) { k.cut = false })
	}
}

// Isolate cuts a node from all other known nodes, in both directions. Its
// connections to itself go on.
func (h *Hub) Isolate(node string) {
	for _, n := range h.names(node) {
		h.Cut(node, n)
		h.Cut(n, node)
	}
}

// Partition cuts all links between nodes of different sets, and heals those
// within one set. Links of nodes in no set are left alone.
func (h *Hub) Partition(sets ...[]string) {
	for i, a := range sets {
		for j, b := range sets {
			for _, from := range a {
				for _, to := range b {
					if i == j {
						h.Heal(from, to)
					} else {
						h.Cut(from, to)
					}
				}
			}
		}
	}
}

// SetDelay sets the time that bytes take from one node to another, and the
// largest random addition to it. Bytes of one connection never overtake.
func (h *Hub) SetDelay(from, to string, delay, jitter time.Duration) {
	h.link(from, to).update(func(k *link) { k.delay, k.jitter = delay, jitter })
}

// SetBandwidth limits each connection from one node to another, in bytes per
// second; 0 is no limit.
func (h *Hub) SetBandwidth(from, to string, bytesPerSecond int) {
	h.link(from, to).update(func(k *link) { k.bandwidth = bytesPerSecond })
}

// Reset breaks all connections between two nodes at once, at both ends. What
// was on its way is lost.
func (h *Hub) Reset(a, b string) {
	h.mu.Lock()
	var hit []*conn
	if hs := h.hosts[a]; hs != nil {
		for c := range hs.conns {
			if c.peer.host.name == b {
				hit = append(hit, c)
			}
		}
	}
	h.mu.Unlock()
	for _, c := range hit {
		c.fail(errReset)
		c.peer.fail(errReset)
	}
}

// Kill ends the process on a node: its listeners and connections are gone.
// The others see a reset, after what had been written and as far as the links
// carry. A new process may start at once (Node).
func (h *Hub) Kill(node string) {
	conns := h.die(node, false)
	for _, c := range conns {
		c.fail(net.ErrClosed)
		c.out.end(errReset)
	}
}

// PowerOff ends a node in silence: what it had not delivered is lost, and the
// others see nothing. Attempts to connect to it wait. After PowerOn a new
// process may start.
func (h *Hub) PowerOff(node string) {
	conns := h.die(node, true)
	for _, c := range conns {
		c.out.mute()
		c.fail(net.ErrClosed)
	}
}

// PowerOn gives a node its power back. The others' old connections to it are
// reset as soon as they have sent something since, as TCP does.
func (h *Hub) PowerOn(node string) {
	h.mu.Lock()
	hs := h.hostLocked(node)
	orphans, back := hs.orphans, hs.back
	hs.orphans, hs.back, hs.off = nil, nil, false
	h.mu.Unlock()
	if back != nil {
		close(back)
	}
	for _, c := range orphans {
		c.orphan()
	}
}

// die makes all Nodes of the host void and returns the connections to end.
func (h *Hub) die(node string, power bool) []*conn {
	h.mu.Lock()
	hs := h.hostLocked(node)
	hs.gen++
	ls := hs.listeners
	hs.listeners = map[int]*listener{}
	conns := make([]*conn, 0, len(hs.conns))
	for c := range hs.conns {
		conns = append(conns, c)
		if power {
			hs.orphans = append(hs.orphans, c.peer)
		}
	}
	hs.conns = map[*conn]struct{}{}
	if power && !hs.off {
		hs.off, hs.back = true, make(chan struct{})
	}
	h.mu.Unlock()
	for _, l := range ls {
		l.closeOnce.Do(func() { close(l.closed) })
	}
	return conns
}

// Conns returns the number of open connection ends of a node, for leak checks.
func (h *Hub) Conns(node string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if hs := h.hosts[node]; hs != nil {
		return len(hs.conns)
	}
	return 0
}

// addr is "host:port".
type addr struct {
	host string
	port int
}

var _ net.Addr = addr{}

// Network implements net.Addr. It says tcp, because that is what is simulated.
func (a addr) Network() string { return "tcp" }

func (a addr) String() string { return net.JoinHostPort(a.host, strconv.Itoa(a.port)) }
