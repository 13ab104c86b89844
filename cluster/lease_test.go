package cluster

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestLeaseRunsFromTheSending_I5: a renewal whose answer took long extends the
// lease from when it was sent.
func TestLeaseRunsFromTheSending_I5(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLease()
		if l.held() {
			t.Fatal("a new lease is held")
		}
		sent := time.Now()
		time.Sleep(3 * time.Second)
		l.extend(sent, 5*time.Second)
		time.Sleep(2*time.Second - time.Millisecond)
		if !l.held() {
			t.Fatal("lost early")
		}
		time.Sleep(2 * time.Millisecond)
		if l.held() {
			t.Fatal("still held 5 s after the renewal was sent")
		}
	})
}

// TestLeaseBook: the control leader gives a node up only a full lease after it
// was last heard of, and a new leader starts everybody with a full lease.
func TestLeaseBook(t *testing.T) {
	b := newLeaseBook()
	now := time.Now()
	b.restart([]string{"a", "b"}, now)
	b.renew("a", now.Add(3*time.Second))
	up := []string{"a", "b", "c"}
	if got := b.lost(up, 5*time.Second, now.Add(4*time.Second)); got != nil {
		t.Fatalf("lost %v within the lease", got)
	}
	if got := b.lost(up, 5*time.Second, now.Add(6*time.Second)); !slices.Equal(got, []string{"b"}) {
		t.Fatalf("lost %v, want b", got)
	}
	if got := b.lost(up, 5*time.Second, now.Add(10*time.Second)); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Fatalf("lost %v, want all", got)
	}
}

func TestConfigValidate(t *testing.T) {
	ok := DefaultConfig()
	if err := ok.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"lease below 3T+1s (I27)": func(c *Config) { c.Lease.LostAfter = 4 * time.Second },
		"renew too rare":          func(c *Config) { c.Lease.Renew = 3 * time.Second },
		"wildcard, no advertise":  func(c *Config) { c.ClusterAddr, c.InsecureCluster = "0.0.0.0:7400", true },
		"beyond loopback, no TLS": func(c *Config) { c.ClusterAddr, c.AdvertiseAddr = "10.0.0.1:7400", "10.0.0.1:7400" },
		"no shards":               func(c *Config) { c.Settings.Shards = 0 },
		"unknown role":            func(c *Config) { c.Roles = []string{"boss"} },
		"two clusters possible":   func(c *Config) { c.BootstrapExpect, c.Join = 2, []string{"a:1", "b:1", "c:1", "d:1"} },
		"expect without join":     func(c *Config) { c.BootstrapExpect = 3 },
		"entry too large":         func(c *Config) { c.Raft.EntryMax = 1 << 20 },
	} {
		c := DefaultConfig()
		change(&c)
		if err := c.Validate(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
