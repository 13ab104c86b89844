package cluster

import (
	"encoding/json"
	"net"
	"sync"
	"time"
)

// helloServer answers hellos with what this node has agreed to, also long
// after the cluster was formed: a late member still has to learn of it.
type helloServer struct {
	// admit answers a node that wants to join; set before the port accepts.
	admit func(*hello) hello
	// secret is what founders share, "" for none.
	secret string

	mu   sync.Mutex
	last hello // guarded by mu
}

func (h *helloServer) set(v hello) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = v
}

func (h *helloServer) get() hello {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

// serve answers one hello and closes the connection. from is who the port let
// in: a certificate for one node says nothing for another.
func (h *helloServer) serve(conn net.Conn, from string) {
	defer conn.Close()
	if conn.SetDeadline(time.Now().Add(helloTimeout)) != nil {
		return
	}
	asked, err := readHello(conn)
	if err != nil || asked.Self.ID != from {
		return
	}
	answer := h.get()
	if asked.Joining && h.admit != nil {
		answer = h.admit(&asked)
	}
	answer.Proof = answer.prove(h.secret, asked.Nonce)
	_ = json.NewEncoder(conn).Encode(answer) // the asker retries
}
