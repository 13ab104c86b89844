package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// TestFoundersShareASecret: three nodes with one secret form a cluster, and count neither the node that has another secret nor
// the one that has none, although their ids come first.
func TestFoundersShareASecret(t *testing.T) {
	f := &formingNodes{servers: map[string]*helloServer{}}
	addrs := []string{"a1:7400", "a2:7400", "n1:7400", "n2:7400", "n3:7400"}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	strangers, stop := context.WithCancel(ctx)
	var wg, outside sync.WaitGroup
	defer outside.Wait()
	defer stop()
	secrets := map[string]string{"a1": "", "a2": "another", "n1": "secret", "n2": "secret", "n3": "secret"}
	var founders []*formation
	for _, id := range []string{"a1", "a2", "n1", "n2", "n3"} {
		fm, h := f.node(t, t.TempDir(), id, 3, addrs)
		fm.cfg.JoinToken, h.secret = secrets[id], secrets[id]
		if secrets[id] != "secret" {
			outside.Add(1)
			go func() { defer outside.Done(); _ = fm.run(strangers, h) }()
			continue
		}
		founders = append(founders, fm)
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := fm.run(ctx, h); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	for _, fm := range founders {
		a := fm.id.Agreed
		if !fm.id.Formed || a == nil || len(a.Members) != 3 || a.has("a1") || a.has("a2") || a.ClusterID != founders[0].id.clusterID() {
			t.Errorf("%s agreed to %+v", fm.id.NodeID, a)
		}
	}
}

// TestProofIsOfOneAnswer: a proof that was recorded is worth nothing for another question, or for another answer.
func TestProofIsOfOneAnswer(t *testing.T) {
	said := hello{Self: member{ID: "n1", Addr: "n1:7400"}, Expect: 3}
	said.Proof = said.prove("secret", "nonce")
	f := &formation{cfg: &Config{JoinToken: "secret"}, doubted: map[string]bool{"n1": true, "n9": true}}
	if !f.believe(&said, "nonce") {
		t.Fatal("the right proof is not believed")
	}
	for what, change := range map[string]func(*hello){
		"address": func(h *hello) { h.Self.Addr = "evil:7400" }, "id": func(h *hello) { h.Self.ID = "n9" }, "formed": func(h *hello) { h.Formed = true },
		"agreed": func(h *hello) { h.Agreed = &agreement{ClusterID: "x"} }, "no proof": func(h *hello) { h.Proof = "" }, "proof": func(h *hello) { h.Proof = said.prove("other", "nonce") },
	} {
		h := said
		change(&h)
		if f.believe(&h, "nonce") {
			t.Errorf("another %s is believed", what)
		}
	}
	if f.believe(&said, "another nonce") {
		t.Error("a recorded proof is believed")
	}
}

// TestFormationBeyondLoopbackNeedsASecret: the port of a node that forms a cluster is open to all who reach it.
func TestFormationBeyondLoopbackNeedsASecret(t *testing.T) {
	for i, c := range []struct {
		change func(*Config, *identity)
		ok     bool
	}{
		{func(*Config, *identity) {}, false},
		{func(c *Config, _ *identity) { c.JoinToken = "secret" }, true},
		{func(c *Config, _ *identity) { c.InsecureCluster = true }, true},
		{func(c *Config, _ *identity) { c.ClusterAddr = "127.0.0.1:7400" }, true},
		{func(c *Config, _ *identity) { c.BootstrapExpect = 1 }, true},
		{func(_ *Config, id *identity) { id.Formed = true }, true},
		{func(c *Config, _ *identity) { c.ClusterAddr, c.AdvertiseAddr = "0.0.0.0:7400", "10.0.0.1:7400" }, false},
	} {
		cfg, id := Config{ClusterAddr: "10.0.0.1:7400", BootstrapExpect: 3}, identity{}
		c.change(&cfg, &id)
		if err := cfg.needsSecret(&id); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrConfig) {
			t.Errorf("case %d: %v", i, fmt.Sprint(err))
		}
	}
}
