package transport

import (
	"net"
	"time"
)

// GroupLayer is the stream layer of one Raft group: a listener that yields
// the connections of other replicas, and a dialler that takes node ids.
type GroupLayer struct{}

var _ net.Listener = (*GroupLayer)(nil)

// Accept implements net.Listener.
func (l *GroupLayer) Accept() (net.Conn, error) { panic("not yet") }

// Close stops the layer and closes all its connections.
func (l *GroupLayer) Close() error { panic("not yet") }

// Addr implements net.Listener.
func (l *GroupLayer) Addr() net.Addr { panic("not yet") }

// Dial connects to the replica on a node.
func (l *GroupLayer) Dial(nodeID string, timeout time.Duration) (net.Conn, error) { panic("not yet") }
