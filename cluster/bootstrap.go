package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
)

const (
	// helloEvery is how often a forming node asks the others.
	helloEvery = 250 * time.Millisecond
	// helloTimeout bounds one exchange: nodes that form a cluster answer from memory.
	helloTimeout = 2 * time.Second
	// helloMaxBytes bounds a hello: a list of some dozen members.
	helloMaxBytes = 64 << 10
)

// hello is what nodes tell each other before they share a cluster id. One
// JSON line each way, on a connection of kind "join".
type hello struct {
	Self   member     `json:"self"`
	Expect int        `json:"expect"`
	Agreed *agreement `json:"agreed,omitempty"`
	Formed bool       `json:"formed"`
	// Joining asks to be let into a cluster that exists, Token is the permission. The answer has Admitted and the
	// members in Agreed, or Refused, the reason why asking again will not help.
	Joining  bool   `json:"joining,omitempty"`
	Token    string `json:"token,omitempty"`
	Admitted bool   `json:"admitted,omitempty"`
	Refused  string `json:"refused,omitempty"`
	// Nonce of a question, and Proof in its answer: see founders.go.
	Nonce string `json:"nonce,omitempty"`
	Proof string `json:"proof,omitempty"`
}

// formation makes one cluster out of N empty nodes.
//
// The rule that prevents two clusters: a node agrees to one list only, and
// writes it down before it says so; a list is complete only when every one of
// its members was seen to have agreed to it. Two lists that share a member can
// therefore not both become complete, and fewer than 2N addresses make any two
// lists share one.
type formation struct {
	cfg  *Config
	id   *identity
	self member
	lg   *zap.Logger
	dial func(ctx context.Context, addr string) (net.Conn, error)
	// clusterID is the cluster that the certificates name, "" where there are none.
	clusterID string
	// doubted are the nodes that were reported for want of a proof.
	doubted map[string]bool
}

// run returns once the identity is formed.
func (f *formation) run(ctx context.Context, h *helloServer) error {
	switch {
	case len(f.cfg.Join) > 0 && f.cfg.BootstrapExpect == 0:
		return f.join(ctx, h)
	case f.cfg.BootstrapExpect <= 1:
		return f.formAlone()
	}
	seen := map[string]hello{}
	tick := time.NewTicker(helloEvery)
	defer tick.Stop()
	lastReport := 0
	for {
		for _, addr := range f.cfg.Join {
			nonce := randomHex(16)
			peer, err := f.ask(ctx, addr, nonce)
			if err != nil || peer.Self.ID == f.id.NodeID || !f.believe(&peer, nonce) && !f.late(&peer) {
				continue
			}
			seen[peer.Self.ID] = peer
			if f.id.Agreed == nil && peer.Formed && peer.Agreed != nil && !peer.Agreed.has(f.id.NodeID) {
				return f.join(ctx, h) // there is a cluster: this node is late, or an addition
			}
		}
		if n := len(seen) + 1; n != lastReport {
			lastReport = n
			f.lg.Info("waiting for nodes to form a cluster", zap.String("event", "node.joining"), zap.Int("seen", n), zap.Int("expect", f.cfg.BootstrapExpect))
		}
		done, err := f.step(seen)
		if err != nil {
			return err
		}
		h.set(f.hello())
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// formAlone forms a cluster of one.
func (f *formation) formAlone() error {
	f.id.Agreed = &agreement{ClusterID: f.newClusterID(), Members: []member{f.self}}
	f.id.Formed = true
	return f.id.save(f.cfg.DataDir)
}

// step looks at what was seen and moves on by at most one durable step.
func (f *formation) step(seen map[string]hello) (formed bool, err error) {
	if f.id.Agreed == nil {
		if err := f.refuseFormed(seen); err != nil {
			return false, err
		}
		list := f.choose(seen)
		if list == nil {
			return false, nil
		}
		f.id.Agreed = list
		if err := f.id.save(f.cfg.DataDir); err != nil {
			return false, err
		}
	}
	for _, m := range f.id.Agreed.Members {
		if m.ID == f.id.NodeID {
			continue
		}
		peer, ok := seen[m.ID]
		if !ok || peer.Agreed == nil || peer.Agreed.ClusterID != f.id.Agreed.ClusterID {
			return false, nil
		}
		if peer.Formed {
			break // somebody saw all members agree
		}
	}
	f.id.Formed = true
	return true, f.id.save(f.cfg.DataDir)
}

// refuseFormed ends the start of a node that a formed cluster counts among its
// founders although this directory never agreed: its disk was lost, and with it
// votes that it may have cast (I25). A cluster is formed only once all of its
// founders have agreed, so there is no other explanation.
func (f *formation) refuseFormed(seen map[string]hello) error {
	for _, id := range sortedKeys(seen) {
		p := seen[id]
		if p.Formed && p.Agreed != nil && p.Agreed.has(f.id.NodeID) {
			return fmt.Errorf("%w: node %s is a founder of cluster %s, but this data directory is empty: its disk was lost. Start it under another --node-id", ErrIdentity, f.id.NodeID, p.Agreed.ClusterID)
		}
	}
	return nil
}

// choose returns the list to agree to: one that another node has agreed to and
// that names this node, or, on the node with the smallest id, a new one.
func (f *formation) choose(seen map[string]hello) *agreement {
	members := []member{f.self}
	for _, id := range sortedKeys(seen) {
		p := seen[id]
		if p.Agreed != nil {
			if p.Agreed.has(f.id.NodeID) {
				return p.Agreed
			}
			continue // agreed to a list without this node
		}
		if p.Expect == f.cfg.BootstrapExpect {
			members = append(members, p.Self)
		}
	}
	if len(members) != f.cfg.BootstrapExpect {
		return nil
	}
	slices.SortFunc(members, func(a, b member) int { return strings.Compare(a.ID, b.ID) })
	if members[0].ID != f.id.NodeID {
		return nil // the smallest id proposes
	}
	return &agreement{ClusterID: f.newClusterID(), Members: members}
}

func (f *formation) hello() hello {
	h := hello{Self: f.self, Expect: f.cfg.BootstrapExpect, Formed: f.id.Formed}
	if f.id.Agreed != nil {
		copied := *f.id.Agreed
		h.Agreed = &copied
	}
	return h
}

func (f *formation) ask(ctx context.Context, addr, nonce string) (hello, error) {
	say := f.hello()
	say.Nonce = nonce
	return f.say(ctx, addr, say)
}

func (f *formation) say(ctx context.Context, addr string, h hello) (hello, error) {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	conn, err := f.dial(ctx, addr)
	if err != nil {
		return hello{}, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(helloTimeout)); err != nil {
		return hello{}, err
	}
	if err := json.NewEncoder(conn).Encode(h); err != nil {
		return hello{}, err
	}
	return readHello(conn)
}

func readHello(r io.Reader) (hello, error) {
	var h hello
	if err := json.NewDecoder(io.LimitReader(r, helloMaxBytes)).Decode(&h); err != nil {
		return hello{}, fmt.Errorf("read hello: %w", err)
	}
	if h.Self.ID == "" {
		return hello{}, errors.New("read hello: it names no node")
	}
	return h, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
