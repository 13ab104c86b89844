package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/integration/harness"
)

// Statuses of answers (transport/errors.go).
const (
	statusOK          byte = 1
	statusCluster     byte = 3
	statusNode        byte = 4
	statusRemoved     byte = 6
	statusCertificate byte = 9
)

// longSecurity is the form of `make security`.
func longSecurity() bool { return os.Getenv("FLOTILLA_SECURITY") != "" }

// TestSecurity attacks the cluster port of three nodes with mutual TLS, under traffic: terms, members and state stay as they
// were, memory is bounded, nobody notices, and each refusal is counted and reported with its reason. F23, I31.
func TestSecurity(t *testing.T) {
	long(t)
	f := newFortress(t, true)
	n4, gone := f.guest()
	tr := newTraffic(t, clusterEndpoints(f.c), newSeed(t), smallPlan())
	f.assault("strangers", []string{"not_tls", "no_certificate", "certificate", "tls"}, f.strangers)
	f.assault("the wrong certificate", []string{"certificate", "wrong_cluster", "wrong_node"}, f.impostors)
	f.assault("a removed node", []string{"removed"}, func(t *testing.T) { f.removed(t, n4, gone) })
	f.assault("join tokens", []string{"join"}, f.tokens)
	f.assault("replay", nil, f.replay)
	f.assault("garbage and giants", []string{"first_byte", "preamble"}, func(t *testing.T) { f.garbage(t, as(issued(t, f.authority, "n3"))) })
	f.assault("silent and slow connections", []string{"timeout", "evicted"}, func(t *testing.T) { f.crowd(t, as(issued(t, f.authority, "n3"))) })
	tr.drain(60 * time.Second)
	f.c.WaitAgreement(t, patience)
}

// TestSecurityWithoutTLS holds what a plain cluster port still promises (--insecure-cluster, or loopback): mistakes, noise and
// recordings change nothing. Who reaches such a port, and wants to, can take part: that is what TLS is for.
func TestSecurityWithoutTLS(t *testing.T) {
	long(t)
	f := newFortress(t, false)
	tr := newTraffic(t, clusterEndpoints(f.c), newSeed(t), smallPlan())
	f.assault("another cluster's node", []string{"wrong_cluster", "wrong_node", "unexpected_tls"}, func(t *testing.T) {
		for name, frame := range raftAttacks() {
			for status, pre := range map[byte][]byte{
				statusCluster: preambleOf(kindRaft, 1, "another", "n2", "n1"),
				statusNode:    preambleOf(kindRaft, 1, f.clusterID, "n2", "n3"),
			} {
				if got := f.knock(nil, pre, frame); got != status {
					t.Errorf("%s: status %d, want %d", name, got, status)
				}
			}
			if got := f.knock(nil, preambleOf(kindRaft, 1, f.clusterID, "n1", "n1"), frame); got != statusNode {
				t.Errorf("%s under its own name: status %d", name, got)
			}
		}
		f.knock(as(), preambleOf(kindPeer, 0, f.clusterID, "n2", "n1"))
	})
	f.assault("replay", nil, f.replay)
	f.assault("garbage and giants", []string{"first_byte", "preamble"}, func(t *testing.T) { f.garbage(t, nil) })
	if longSecurity() {
		f.assault("silent and slow connections", []string{"timeout", "evicted"}, func(t *testing.T) { f.crowd(t, nil) })
	}
	tr.drain(60 * time.Second)
	f.c.WaitAgreement(t, patience)
}

// smallPlan leaves the machine some room for the attacker.
func smallPlan() plan {
	p := mixedPlan(20 * time.Millisecond)
	p.publishers, p.subscribers = p.publishers[:4], p.subscribers[:3]
	return p
}

// guest lets a fourth node in that is removed later, and opens a connection under its name, which is let in.
func (f *fortress) guest() (*harness.Node, net.Conn) {
	f.t.Helper()
	n4 := f.c.Add(f.t)
	f.launch(n4)
	n4.WaitReady(f.t)
	settled(f.t, f.c.Nodes[0], []string{"n1", "n2", "n3", "n4"})
	f.c.Nodes = f.c.Nodes[:3]
	f.t.Cleanup(func() { _ = n4.Kill() })
	raw, err := net.DialTimeout("tcp", f.c.Nodes[0].ClusterAddr(), 5*time.Second)
	if err != nil {
		f.t.Fatal(err)
	}
	conn := tls.Client(raw, as(issued(f.t, f.authority, "n4")))
	f.t.Cleanup(func() { _ = raw.Close() })
	_, _ = conn.Write(preambleOf(kindRaft, 0, f.clusterID, "n4", "n1"))
	if s := answerOf(conn); s != statusOK {
		f.t.Fatalf("a member was refused: status %d", s)
	}
	member(f.t, f.c.Nodes[0], "node", "remove", "n4", "-y", "--wait")
	return n4, conn
}

// strangers have no certificate, or one that the cluster's CA did not sign.
func (f *fortress) strangers(t *testing.T) {
	other := newCA(t, f.clusterID) // the same cluster id, another key
	old := as(issued(t, f.authority, "n2"))
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	for name, frame := range raftAttacks() {
		for group := range uint32(9) {
			pre := preambleOf(kindRaft, group, f.clusterID, "n2", "n1")
			for who, conf := range map[string]*tls.Config{"in clear": nil, "no certificate": as(), "another CA's": as(issued(t, other, "n2")), "TLS 1.2": old} {
				if s := f.knock(conf, pre, frame); s != 0 {
					t.Errorf("%s, %s, group %d: answered with status %d", name, who, group, s)
				}
				if group > 1 && who != "no certificate" {
					break
				}
			}
		}
	}
	for _, kind := range []byte{kindPeer, kindJoin} {
		if s := f.knock(as(), preambleOf(kind, 0, f.clusterID, "n2", "n1")); s != 0 {
			t.Errorf("kind %d: answered with status %d", kind, s)
		}
	}
}

// impostors have a certificate that the cluster's CA has signed, for something else.
func (f *fortress) impostors(t *testing.T) {
	id := f.clusterID
	for who, c := range map[string]struct {
		conf   *tls.Config
		pre    func(kind byte) []byte
		status byte
	}{
		"a client":             {as(forge(t, f.authority, func(*x509.Certificate) {})), nil, statusCertificate},
		"a client with a name": {as(forge(t, f.authority, func(c *x509.Certificate) { c.DNSNames = []string{"device.example"} })), nil, 0},
		"a client with the cluster's name": {as(forge(t, f.authority, func(c *x509.Certificate) {
			nodeNames(c, id, "n2")
			c.URIs = nil
		})), nil, statusCertificate},
		"a client's use only": {as(forge(t, f.authority, func(c *x509.Certificate) {
			nodeNames(c, id, "n2")
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		})), nil, 0},
		"another cluster's node": {as(forge(t, f.authority, func(c *x509.Certificate) { nodeNames(c, "another", "n2") })), nil, 0},
		"an old certificate": {as(forge(t, f.authority, func(c *x509.Certificate) {
			nodeNames(c, id, "n2")
			c.NotAfter = time.Now().Add(-time.Minute)
		})), nil, 0},
		"another node":                    {as(issued(t, f.authority, "n3")), nil, statusCertificate},
		"another cluster in the preamble": {as(issued(t, f.authority, "n3")), func(k byte) []byte { return preambleOf(k, 1, "another", "n3", "n1") }, statusCluster},
		"for another node":                {as(issued(t, f.authority, "n3")), func(k byte) []byte { return preambleOf(k, 1, id, "n3", "n2") }, statusNode},
	} {
		for name, frame := range raftAttacks() {
			pre := preambleOf(kindRaft, 1, id, "n2", "n1")
			if c.pre != nil {
				pre = c.pre(kindRaft)
			}
			if s := f.knock(c.conf, pre, frame); s != c.status {
				t.Errorf("%s, %s: status %d, want %d", who, name, s, c.status)
			}
		}
		pre := preambleOf(kindPeer, 0, id, "n2", "n1")
		if c.pre != nil {
			pre = c.pre(kindPeer)
		}
		if s := f.knock(c.conf, pre); s != c.status {
			t.Errorf("%s as a peer: status %d, want %d", who, s, c.status)
		}
	}
}

// removed is a node whose certificate is in order, and which is no member any more.
func (f *fortress) removed(t *testing.T, n4 *harness.Node, gone net.Conn) {
	_ = gone.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, gone); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Error("a connection from before the removal is still open")
	}
	for _, kind := range []byte{kindRaft, kindPeer, kindJoin} {
		if s := f.knock(as(issued(t, f.authority, "n4")), preambleOf(kind, 0, f.clusterID, "n4", "n1")); s != statusRemoved {
			t.Errorf("kind %d: status %d, want %d", kind, s, statusRemoved)
		}
	}
	if code := n4.WaitExit(t, patience); code != 9 {
		t.Errorf("the removed node ended with code %d, want 9", code)
	}
}

// tokens: a used one, an expired one, one that never was.
func (f *fortress) tokens(t *testing.T) {
	token := func(args ...string) string {
		cmd := exec.Command(harness.Binary(t), append([]string{"cluster", "token", "create", "-e", "http://" + f.c.Nodes[0].AdminAddr()}, args...)...)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	join := func(node, claim, secret string) string {
		raw, err := net.DialTimeout("tcp", f.c.Nodes[0].ClusterAddr(), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		conn := tls.Client(raw, as(issued(t, f.authority, node)))
		_ = conn.SetDeadline(time.Now().Add(standstill))
		hello, _ := json.Marshal(map[string]any{"self": map[string]any{"id": claim, "addr": "127.0.0.1:1", "roles": []string{"gateway"}}, "joining": true, "token": secret})
		if _, err := conn.Write(append(preambleOf(kindJoin, 0, "", node, ""), append(hello, '\n')...)); err != nil {
			t.Fatal(err)
		}
		if s := answerOf(conn); s != statusOK {
			t.Fatalf("status %d", s)
		}
		b, _ := io.ReadAll(conn)
		return string(b)
	}
	expired := token("--ttl", "1s")
	waitPast(t, time.Second)
	for name, secret := range map[string]string{"expired": expired, "unknown": "flotilla-guessed"} {
		if s := join("n8", "n8", secret); !strings.Contains(s, "refused") || strings.Contains(s, `"admitted":true`) {
			t.Errorf("%s: %s", name, s)
		}
	}
	if s := join("n8", "n9", token()); s != "" {
		t.Errorf("a certificate for n8 was answered as n9: %s", s)
	}
}

// waitPast returns when so much time has passed: a token has to expire.
func waitPast(t *testing.T, d time.Duration) {
	t.Helper()
	until := time.Now().Add(d + 100*time.Millisecond)
	harness.Wait(t, d+10*time.Second, "the token to expire", func(context.Context) error {
		if left := time.Until(until); left > 0 {
			return fmt.Errorf("%v are left", left)
		}
		return nil
	})
}

// replay sends again what others have sent to n1: of each other node a link, and a stream of raft of each that leads a group.
func (f *fortress) replay(t *testing.T) {
	var streams [][]byte
	harness.Wait(t, patience, "streams of raft and of links to n1", func(context.Context) error {
		streams = f.rec.recorded()
		kinds := map[byte]int{}
		for _, s := range streams {
			if len(s) > 3 {
				kinds[s[3]]++
			}
		}
		enough := kinds[kindRaft] > 0 && kinds[kindPeer] >= 2
		if f.authority != nil { // nobody can look into them
			enough = len(streams) >= 3
		}
		if !enough {
			return fmt.Errorf("%d were recorded, by kind %v", len(streams), kinds)
		}
		return nil
	})
	total := 0
	var wg sync.WaitGroup
	for _, s := range streams {
		if len(s) == 0 {
			continue
		}
		total += len(s)
		wg.Go(func() {
			conn, err := net.DialTimeout("tcp", f.c.Nodes[0].ClusterAddr(), 5*time.Second)
			if err != nil {
				return
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
			go func() { _, _ = io.Copy(io.Discard, conn) }() // ends with conn
			_, _ = io.Copy(conn, bytes.NewReader(s))
		})
	}
	wg.Wait()
	t.Logf("%d streams, %d KiB", len(streams), total>>10)
}

// garbage sends what is no preamble, and frames that declare more than there is. With conf it comes from a node.
func (f *fortress) garbage(t *testing.T, conf *tls.Config) {
	good := preambleOf(kindPeer, 0, f.clusterID, "n3", "n1")
	raftPre := preambleOf(kindRaft, 1, f.clusterID, "n3", "n1")
	for _, text := range [][]byte{
		[]byte("GET / HTTP/1.1\r\n\r\n"), {0x10, 0x10}, pemOf(good), append(good[:5:5], 0xFF, 0xFF), append(good[:5:5], 0, 3, 1, 2, 3),
		append(good[:3:3], 77, 1, 0, 0), bytes.Repeat([]byte{0xF1}, 4096), bytes.Repeat([]byte{0}, 70_000),
	} {
		if s := f.knock(conf, text); s == statusOK {
			t.Errorf("% x... was let in", text[:2])
		}
	}
	// Past the preamble: a frame of the peer link, and entries of raft's, of four gigabytes.
	link := binary.BigEndian.AppendUint32(nil, 16)
	link = append(append(link, 240, 0, 0, 0, 0, 0), make([]byte, 16)...)
	huge := append(link, 0xFF, 0xFF, 0xFF, 0xFF, 1, 0, 0, 0, 0, 0)
	entries := append([]byte{0, 0x81, 0xA7}, "Entries"...) // AppendEntries with one field
	for name, text := range map[string][]byte{
		"peer frame": append(good[:len(good):len(good)], huge...),
		"raft array": append(append(raftPre[:len(raftPre):len(raftPre)], entries...), 0xDD, 0x7F, 0xFF, 0xFF, 0xFF, 0x81),
		"raft bytes": append(append(raftPre[:len(raftPre):len(raftPre)], entries...), 0x91, 0x81, 0xA4, 'D', 'a', 't', 'a', 0xDB, 0x7F, 0xFF, 0xFF, 0xFF, 'x'),
	} {
		before, _ := f.c.Nodes[0].Memory()
		for range 4 {
			f.knock(conf, text)
		}
		if now, peak := f.c.Nodes[0].Memory(); peak > before+memoryAllowance {
			t.Errorf("%s: memory from %d to %d MiB, peak %d", name, before>>20, now>>20, peak>>20)
		}
	}
}

// crowd opens connections that say nothing, or a byte now and then; meanwhile a node gets in.
func (f *fortress) crowd(t *testing.T, conf *tls.Config) {
	count := 400
	if longSecurity() {
		count = 10_000
	}
	ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		swarm(ctx, f.c.Nodes[0].ClusterAddr(), count, func(i int, conn net.Conn) {
			_ = conn.SetDeadline(time.Now().Add(7 * time.Second))
			first := []byte{0xF1, 0x0F, 0x7A, kindPeer}
			if f.authority != nil {
				first = []byte{0x16, 3, 1, 2}
			}
			if i%2 == 0 {
				_, _ = conn.Write(first)
			}
			_, _ = io.Copy(io.Discard, conn)
		})
	})
	for i := range 5 {
		start := time.Now()
		if s := f.knock(conf, preambleOf(kindPeer, 0, f.clusterID, "n3", "n1")); s != statusOK {
			t.Errorf("node %d in the crowd: status %d after %v", i, s, time.Since(start))
		}
	}
	wg.Wait()
}
