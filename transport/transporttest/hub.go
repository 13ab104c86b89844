package transporttest

import (
	"context"
	"net"
	"time"

	"github.com/flotilla-mqtt/flotilla/transport"
)

// Hub is a whole network. All nodes reach each other until told otherwise.
type Hub struct{}

// NewHub returns a network without delays and faults.
func NewHub() *Hub { panic("not yet") }

// Node is the network as one node sees it. Addresses are "node:port"; port 0 takes a free one.
type Node struct{}

var _ transport.Network = (*Node)(nil)

// Node returns the network of the node with this name, which is also its host name.
func (h *Hub) Node(name string) *Node { panic("not yet") }

// Listen implements transport.Network.
func (n *Node) Listen(addr string) (net.Listener, error) { panic("not yet") }

// Dial implements transport.Network.
func (n *Node) Dial(ctx context.Context, addr string) (net.Conn, error) { panic("not yet") }

// Cut holds all bytes from one node to another, until Heal.
func (h *Hub) Cut(from, to string) { panic("not yet") }

// Heal ends Cut: held bytes are delivered.
func (h *Hub) Heal(from, to string) { panic("not yet") }

// HealAll ends all cuts.
func (h *Hub) HealAll() { panic("not yet") }

// Isolate cuts a node from all others, in both directions.
func (h *Hub) Isolate(node string) { panic("not yet") }

// Partition cuts all links between nodes of different sets, and heals those within one.
func (h *Hub) Partition(sets ...[]string) { panic("not yet") }

// SetDelay sets the delay and the largest random addition to it from one node to another.
func (h *Hub) SetDelay(from, to string, delay, jitter time.Duration) { panic("not yet") }

// SetBandwidth limits each connection from one node to another, in bytes per second; 0 is no limit.
func (h *Hub) SetBandwidth(from, to string, bytesPerSecond int) { panic("not yet") }

// Reset breaks all connections between two nodes.
func (h *Hub) Reset(a, b string) { panic("not yet") }

// Kill ends a node's process: its listeners and connections are gone, the others see a reset. The node may listen again at once.
func (h *Hub) Kill(node string) { panic("not yet") }

// PowerOff ends a node in silence: the others see nothing, until PowerOn.
func (h *Hub) PowerOff(node string) { panic("not yet") }

// PowerOn lets a node listen and dial again; old connections to it are reset.
func (h *Hub) PowerOn(node string) { panic("not yet") }

// Conns returns the number of open connection ends of a node.
func (h *Hub) Conns(node string) int { panic("not yet") }
