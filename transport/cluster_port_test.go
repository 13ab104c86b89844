package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flotilla-mqtt/flotilla/transport/transporttest"
	"go.uber.org/zap/zaptest"
)

// accepted is a peer connection, or why there is none.
type accepted struct {
	conn net.Conn
	info PeerInfo
	err  error
}

func acceptPeer(p *ClusterPort) chan accepted {
	ch := make(chan accepted, 1)
	go func() {
		c, info, err := p.AcceptPeer()
		ch <- accepted{c, info, err}
	}()
	return ch
}

func TestRaftAndPeerStreamsOverLoopback(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%v", secure), func(t *testing.T) {
			b := book{}
			ca := newAuthority(t)
			edit := func(id string) func(*ClusterConfig) {
				return func(c *ClusterConfig) {
					if secure {
						c.TLS = ca.config(ca.node("c1", id))
					}
				}
			}
			n1 := openNode(t, b, "n1", "c1", edit("n1"))
			n2 := openNode(t, b, "n2", "c1", edit("n2"))

			// Two groups do not see each other's streams.
			for _, g := range []uint32{0, 7} {
				l := n2.GroupLayer(g)
				if n2.GroupLayer(g) != l {
					t.Error("a second layer for an open group")
				}
				c, err := n1.GroupLayer(g).Dial("n2", 5*time.Second)
				if err != nil {
					t.Fatal(err)
				}
				s, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				mustWrite(t, c, fmt.Sprintf("to group %d", g))
				mustRead(t, s, fmt.Sprintf("to group %d", g))
				mustWrite(t, s, "back")
				mustRead(t, c, "back")
			}

			got := acceptPeer(n2)
			c, info, err := n1.DialPeer(t.Context(), "n2", KindPeer)
			if err != nil {
				t.Fatal(err)
			}
			a := <-got
			if a.err != nil || a.info.NodeID != "n1" || a.info.ClusterID != "c1" || a.info.Kind != KindPeer || a.info.Verified != secure || a.info.Addr.String() != c.LocalAddr().String() {
				t.Errorf("accepted %+v, %v", a.info, a.err)
			}
			if info.NodeID != "n2" || info.ClusterID != "c1" || info.Verified != secure {
				t.Errorf("dialled %+v", info)
			}
			mustWrite(t, c, strings.Repeat("x", 1<<20))
			mustRead(t, a.conn, strings.Repeat("x", 1<<20))
			c.Close()
			mustEnd(t, a.conn)
			if _, ok := c.(*tracked).Conn.(*tls.Conn); ok != secure {
				t.Errorf("TLS: %v", ok)
			}
		})
	}
}

// Joining is the one thing that is let in without, or across, cluster ids.
func TestJoin(t *testing.T) {
	b := book{}
	n1 := openNode(t, b, "n1", "c1", nil)
	empty := openNode(t, b, "n2", "", nil)
	dial := func(from *ClusterPort, to string) PeerInfo {
		t.Helper()
		c, info, err := from.DialPeer(t.Context(), to, KindJoin)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		return info
	}
	go func() {
		for {
			if _, _, err := n1.AcceptPeer(); err != nil {
				return
			}
		}
	}()
	if i := dial(empty, n1.Addr().String()); i.NodeID != "n1" || i.ClusterID != "c1" {
		t.Errorf("by address: %+v", i)
	}
	if i := dial(empty, "n1"); i.NodeID != "n1" {
		t.Errorf("by id: %+v", i)
	}
	// --join may name the node itself: the caller sees its own id.
	if i := dial(n1, n1.Addr().String()); i.NodeID != "n1" {
		t.Errorf("itself: %+v", i)
	}
	got := acceptPeer(empty)
	dial(n1, "n2")
	if a := <-got; a.info.ClusterID != "c1" || a.info.Kind != KindJoin {
		t.Errorf("accepted %+v", a.info)
	}
	if _, _, err := n1.DialPeer(t.Context(), "127.0.0.1:1", KindPeer); !errors.Is(err, ErrUnknownNode) {
		t.Errorf("a peer by address: %v", err)
	}
}

// The dialler learns why it was refused, and nothing reaches anybody (I31).
func TestRefusals(t *testing.T) {
	b := book{}
	errQuota := errors.New("over quota")
	n1 := openNode(t, b, "n1", "c1", func(c *ClusterConfig) {
		c.Admit = func(i PeerInfo) error {
			switch i.NodeID {
			case "removed":
				return fmt.Errorf("%w: in May", ErrRemoved)
			case "odd":
				return errQuota
			}
			return nil
		}
		c.MaxPerPeer = 2
	})
	n1.GroupLayer(1)
	b["other"] = b["n1"] // an address that another node inherited
	formed := ""
	young := openNode(t, b, "young", "", func(c *ClusterConfig) { c.ClusterID = func() string { return formed } })

	for _, c := range []struct {
		name          string
		from, cluster string
		to            string
		kind          Kind
		group         uint32
		want          error
	}{
		{"other cluster", "n2", "c2", "n1", KindPeer, 0, ErrWrongCluster},
		{"other cluster, raft", "n2", "c2", "n1", KindRaft, 1, ErrWrongCluster},
		{"no cluster", "n2", "", "n1", KindPeer, 0, ErrWrongCluster},
		{"other node", "n2", "c1", "other", KindPeer, 0, ErrWrongNode},
		{"other node, join", "n2", "c1", "other", KindJoin, 0, ErrWrongNode},
		{"own identity", "n1", "c1", "n1", KindRaft, 1, ErrWrongNode},
		{"removed", "removed", "c1", "n1", KindPeer, 0, ErrRemoved},
		{"removed, join", "removed", "", "n1", KindJoin, 0, ErrRemoved},
		{"removed, raft", "removed", "c1", "n1", KindRaft, 1, ErrRemoved},
		{"refused by the node", "odd", "c1", "n1", KindPeer, 0, ErrRefused},
		{"unknown group", "n2", "c1", "n1", KindRaft, 2, ErrUnknownGroup},
		{"not formed", "n2", "c1", "young", KindPeer, 0, ErrNotFormed},
		{"not formed, raft", "n2", "c1", "young", KindRaft, 1, ErrNotFormed},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := openNode(t, book{}, c.from, c.cluster, func(cfg *ClusterConfig) { cfg.Resolve = b.resolve })
			_, _, err := p.dialNode(t.Context(), c.to, c.kind, c.group)
			var re *RefusedError
			var refusal interface{ Refused() bool } // how raftfsm asks
			if !errors.Is(err, c.want) || !errors.As(err, &re) || !errors.As(err, &refusal) || !refusal.Refused() {
				t.Fatalf("%v; want %v", err, c.want)
			}
			if re.NodeID == "" || re.Message == "" {
				t.Errorf("the answer does not say who refuses, or why: %+v", re)
			}
		})
	}
	t.Run("too many of one node", func(t *testing.T) {
		p := openNode(t, book{}, "greedy", "c1", func(cfg *ClusterConfig) { cfg.Resolve = b.resolve })
		var last net.Conn
		for i := range 3 {
			c, _, err := p.DialPeer(t.Context(), "n1", KindPeer)
			if i < 2 && err != nil || i == 2 && !errors.Is(err, ErrBusy) {
				t.Fatalf("connection %d: %v", i+1, err)
			}
			if c != nil {
				last = c
			}
		}
		// One that ends makes room.
		last.Close()
		a, _, _ := n1.AcceptPeer()
		a2, _, _ := n1.AcceptPeer()
		for _, s := range []net.Conn{a, a2} {
			s.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			if _, err := s.Read(make([]byte, 1)); err == io.EOF {
				s.Close()
			}
		}
		if _, _, err := p.DialPeer(t.Context(), "n1", KindPeer); err != nil {
			t.Errorf("after one has ended: %v", err)
		}
	})
	t.Run("version", func(t *testing.T) {
		c := dialRaw(t, nil, n1.Addr())
		mustWrite(t, c, "\xf1\x0f\x7a\x02\x09\x00\x00")
		a, err := readAnswer(c)
		if err != nil || a.status != StatusVersion || a.version != preambleVersion {
			t.Errorf("%+v, %v", a, err)
		}
		mustEnd(t, c)
	})
	t.Run("nobody", func(t *testing.T) {
		c := dialRaw(t, nil, n1.Addr())
		mustWrite(t, c, string(appendPreamble(nil, preamble{version: 1, kind: KindPeer, cluster: "c1", to: "n1"})))
		if a, err := readAnswer(c); err != nil || a.status != StatusWrongNode {
			t.Errorf("%+v, %v", a, err)
		}
	})
	select {
	case a := <-acceptPeer(young):
		t.Errorf("somebody got in: %+v", a)
	default:
	}
}

// The dialling side checks, too: a node that lies about who was called.
func TestDiallerChecksTheAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		a    answer
		want error
	}{
		"other node":    {answer{version: 1, kind: KindPeer, status: StatusOK, node: "n9", cluster: "c1"}, ErrWrongNode},
		"other cluster": {answer{version: 1, kind: KindPeer, status: StatusOK, node: "n1", cluster: "c9"}, ErrWrongCluster},
		"other kind":    {answer{version: 1, kind: KindRaft, status: StatusOK, node: "n1", cluster: "c1"}, ErrPreamble},
		"other version": {answer{version: 2, kind: KindPeer, status: StatusOK, node: "n1", cluster: "c1"}, ErrPreamble},
		"status 0":      {answer{version: 1, kind: KindPeer, node: "n1", cluster: "c1"}, ErrRefused},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			s, err := l.Accept()
			if err != nil {
				return
			}
			defer s.Close()
			_, _ = readPreamble(s)
			_, _ = s.Write(appendAnswer(nil, c.a))
			_, _ = s.Read(make([]byte, 1))
		}()
		p := openNode(t, book{}, "n2", "c1", func(cfg *ClusterConfig) {
			cfg.Resolve = func(string) (string, bool) { return l.Addr().String(), true }
		})
		if _, _, err := p.DialPeer(t.Context(), "n1", KindPeer); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		l.Close()
		<-done
	}
}

// All 256 first bytes on the cluster port: one is waited for, the others are
// closed at once, without an answer.
func TestFirstBytesOfTheClusterPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := transporttest.NewHub()
		p := openNode(t, book{}, "n1", "c1", func(c *ClusterConfig) { c.Network, c.Addr = hub.Node("n1"), "n1:7400" })
		for b := range 256 {
			c := dialRaw(t, hub.Node("x"), p.Addr())
			mustWrite(t, c, string([]byte{byte(b)}))
			start := time.Now()
			mustEnd(t, c)
			want := time.Duration(0)
			if byte(b) == magic[0] {
				want = 5 * time.Second // the rest may still come
			}
			if d := time.Since(start); d != want {
				t.Errorf("first byte %#x: closed after %v, want %v", b, d, want)
			}
		}
		// Four bytes decide: wrong magic, unknown kinds, answers.
		for _, s := range []string{"\xf1\x0f\x7b\x01", "\xf1\x0e\x7a\x01", "\xf1\x0f\x7a\x00", "\xf1\x0f\x7a\x04", "\xf1\x0f\x7a\x81"} {
			c := dialRaw(t, hub.Node("x"), p.Addr())
			mustWrite(t, c, s)
			start := time.Now()
			mustEnd(t, c)
			if d := time.Since(start); d != 0 {
				t.Errorf("% x: closed after %v", s, d)
			}
		}
		p.Close()
	})
}

// Whoever stops at any byte of the preamble is closed at the deadline.
func TestSlowPreambleIsClosedAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := transporttest.NewHub()
		p := openNode(t, book{}, "n1", "c1", func(c *ClusterConfig) { c.Network, c.Addr = hub.Node("n1"), "n1:7400" })
		pre := appendPreamble(nil, preamble{version: 1, kind: KindPeer, cluster: "c1", from: "n2", to: "n1"})
		for n := range len(pre) {
			c := dialRaw(t, hub.Node("x"), p.Addr())
			start := time.Now()
			mustWrite(t, c, string(pre[:n]))
			mustEnd(t, c)
			if d := time.Since(start); d != 5*time.Second {
				t.Errorf("%d bytes: closed after %v", n, d)
			}
		}
		// A byte per second does not move the deadline.
		c := dialRaw(t, hub.Node("x"), p.Addr())
		start := time.Now()
		for i := range pre {
			if _, err := c.Write(pre[i : i+1]); err != nil {
				break
			}
			time.Sleep(time.Second)
		}
		if d := time.Since(start); d > 8*time.Second {
			t.Errorf("slowloris: closed after %v", d)
		}
		if n := hub.Conns("n1"); n != 0 {
			t.Errorf("%d connections are left", n)
		}
		p.Close()
	})
}

func TestMutualTLSKeepsStrangersOut(t *testing.T) {
	b := book{}
	ca, otherCA := newAuthority(t), newAuthority(t)
	n1 := openNode(t, b, "n1", "c1", func(c *ClusterConfig) { c.TLS = ca.config(ca.node("c1", "n1")) })
	n1.GroupLayer(1)
	client := ca.issue(func(c *x509.Certificate) { c.DNSNames = []string{"device.example"} })
	clientNamed := ca.issue(func(c *x509.Certificate) { c.DNSNames = []string{NodeDNSName("c1")} })
	uriOnly := ca.issue(func(c *x509.Certificate) {
		c.DNSNames, c.URIs = []string{"device.example", NodeDNSName("c2")}, []*url.URL{NodeURI("c1", "n2")}
	})
	two := ca.issue(func(c *x509.Certificate) {
		c.DNSNames, c.URIs = []string{NodeDNSName("c1")}, []*url.URL{NodeURI("c1", "n2"), NodeURI("c1", "n3")}
	})
	serverOnly := ca.issue(func(c *x509.Certificate) {
		c.DNSNames, c.URIs = []string{NodeDNSName("c1")}, []*url.URL{NodeURI("c1", "n2")}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	})
	for name, c := range map[string]struct {
		cert tls.Certificate
		told error // nil: TLS itself fails
	}{
		"other CA":                     {otherCA.node("c1", "n2"), nil},
		"no certificate":               {tls.Certificate{}, nil},
		"not for clients":              {serverOnly, nil},
		"a client's, same CA":          {client, ErrCertificate},
		"a client's with the DNS name": {clientNamed, ErrCertificate},
		"URI without its DNS name":     {uriOnly, ErrCertificate},
		"two nodes in one":             {two, ErrCertificate},
		"another node's":               {ca.node("c1", "n3"), ErrCertificate},
		"another cluster's":            {ca.node("c2", "n2"), ErrCertificate},
	} {
		for _, kind := range []Kind{KindRaft, KindPeer, KindJoin} {
			tc := tls.Client(dialRaw(t, nil, n1.Addr()), &tls.Config{
				RootCAs: ca.pool, ServerName: NodeDNSName("c1"), Certificates: []tls.Certificate{c.cert}})
			if c.cert.Certificate == nil {
				tc = tls.Client(dialRaw(t, nil, n1.Addr()), &tls.Config{RootCAs: ca.pool, ServerName: NodeDNSName("c1")})
			}
			tc.SetDeadline(time.Now().Add(4 * time.Second))
			_, _ = tc.Write(appendPreamble(nil, preamble{version: 1, kind: kind, group: 1, cluster: "c1", from: "n2", to: "n1"}))
			a, err := readAnswer(tc)
			if c.told == nil {
				if err == nil {
					t.Errorf("%s, %s: TLS let it in: %+v", name, kind, a)
				}
				continue
			}
			if err != nil || !errors.Is(a.status.err(), c.told) || a.node != "" || a.message != "" {
				t.Errorf("%s, %s: %+v, %v", name, kind, a, err)
			}
		}
	}
	// In clear, and with TLS 1.2.
	c := dialRaw(t, nil, n1.Addr())
	mustWrite(t, c, string(appendPreamble(nil, preamble{version: 1, kind: KindPeer, cluster: "c1", from: "n2", to: "n1"})))
	c.SetDeadline(time.Now().Add(4 * time.Second))
	if _, err := readAnswer(c); err == nil {
		t.Error("a preamble in clear was answered")
	}
	old := ca.config(ca.node("c1", "n2"))
	old.MaxVersion, old.ServerName = tls.VersionTLS12, NodeDNSName("c1")
	if err := tls.Client(dialRaw(t, nil, n1.Addr()), old).Handshake(); err == nil {
		t.Error("TLS 1.2 was let in")
	}
}

func TestDiallerChecksTheCertificate(t *testing.T) {
	ca, otherCA := newAuthority(t), newAuthority(t)
	for name, cert := range map[string]tls.Certificate{
		"other CA":        otherCA.node("c1", "n1"),
		"another node":    ca.node("c1", "n9"),
		"another cluster": ca.node("c9", "n1"),
		"a client's": ca.issue(func(c *x509.Certificate) {
			c.DNSNames, c.URIs = []string{NodeDNSName("c1")}, []*url.URL{NodeURI("c1", "n1")}
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}),
	} {
		b := book{}
		openNode(t, b, "n1", "c1", func(c *ClusterConfig) { c.TLS = ca.config(cert) })
		n2 := openNode(t, b, "n2", "c1", func(c *ClusterConfig) { c.TLS = ca.config(ca.node("c1", "n2")) })
		for _, kind := range []Kind{KindPeer, KindJoin} {
			if _, _, err := n2.DialPeer(t.Context(), "n1", kind); !errors.Is(err, ErrCertificate) {
				t.Errorf("%s, %s: %v", name, kind, err)
			}
		}
		if _, _, err := n2.DialPeer(t.Context(), b["n1"], KindJoin); err == nil {
			t.Errorf("%s, by address: let in", name)
		}
	}
}

// Nodes that form a cluster know no cluster id yet; their certificates do.
func TestJoinWithCertificatesBeforeThereIsACluster(t *testing.T) {
	b := book{}
	ca := newAuthority(t)
	n1 := openNode(t, b, "n1", "", func(c *ClusterConfig) { c.TLS = ca.config(ca.node("c1", "n1")) })
	n2 := openNode(t, b, "n2", "", func(c *ClusterConfig) { c.TLS = ca.config(ca.node("c1", "n2")) })
	got := acceptPeer(n1)
	if _, info, err := n2.DialPeer(t.Context(), n1.Addr().String(), KindJoin); err != nil || info.NodeID != "n1" || !info.Verified {
		t.Errorf("%+v, %v", info, err)
	}
	if a := <-got; a.info.NodeID != "n2" || !a.info.Verified {
		t.Errorf("%+v", a)
	}
}

func TestClusterConfigFailsClosed(t *testing.T) {
	ca := newAuthority(t)
	good := ca.config(ca.node("c1", "n1"))
	for name, edit := range map[string]func(*ClusterConfig){
		"no node id":         func(c *ClusterConfig) { c.NodeID = "" },
		"bad node id":        func(c *ClusterConfig) { c.NodeID = "a b" },
		"no resolver":        func(c *ClusterConfig) { c.Resolve = nil },
		"no cluster id":      func(c *ClusterConfig) { c.ClusterID = nil },
		"TLS without cert":   func(c *ClusterConfig) { c.TLS = &tls.Config{ClientCAs: ca.pool, RootCAs: ca.pool} },
		"TLS without client": func(c *ClusterConfig) { c.TLS = &tls.Config{Certificates: good.Certificates, RootCAs: ca.pool} },
		"TLS without roots":  func(c *ClusterConfig) { c.TLS = &tls.Config{Certificates: good.Certificates, ClientCAs: ca.pool} },
		"TLS with a bypass": func(c *ClusterConfig) {
			c.TLS = good.Clone()
			c.TLS.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, nil }
		},
	} {
		cfg := ClusterConfig{Addr: "127.0.0.1:0", NodeID: "n1", ClusterID: func() string { return "" }, Resolve: book{}.resolve}
		edit(&cfg)
		if p, err := OpenClusterPort(cfg); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
			if p != nil {
				p.Close()
			}
		}
	}
}

// A layer that nobody accepts from refuses after some connections; its group
// costs the others nothing.
func TestStalledLayerIsBounded(t *testing.T) {
	b := book{}
	n1 := openNode(t, b, "n1", "c1", nil)
	n2 := openNode(t, b, "n2", "c1", nil)
	stalled, healthy := n1.GroupLayer(1), n1.GroupLayer(2)
	busy := 0
	for range layerBacklog + 10 {
		if _, err := n2.GroupLayer(1).Dial("n1", time.Second); errors.Is(err, ErrBusy) {
			busy++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if busy != 10 {
		t.Errorf("%d were refused, want 10", busy)
	}
	if _, err := n2.GroupLayer(2).Dial("n1", time.Second); err != nil {
		t.Errorf("another group: %v", err)
	}
	if _, err := healthy.Accept(); err != nil {
		t.Error(err)
	}
	// Accepting makes room.
	if _, err := stalled.Accept(); err != nil {
		t.Fatal(err)
	}
	if _, err := n2.GroupLayer(1).Dial("n1", time.Second); err != nil {
		t.Errorf("after Accept: %v", err)
	}
}

func TestLayerCloseClosesItsConnections(t *testing.T) {
	b := book{}
	n1 := openNode(t, b, "n1", "c1", nil)
	n2 := openNode(t, b, "n2", "c1", nil)
	l1, l2 := n1.GroupLayer(1), n2.GroupLayer(1)
	dialled, err := l2.Dial("n1", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	acc, err := l1.Accept()
	if err != nil {
		t.Fatal(err)
	}
	other, err := n2.GroupLayer(2).Dial("n1", time.Second)
	if !errors.Is(err, ErrUnknownGroup) || other != nil {
		t.Fatal(err)
	}
	waiting, err := l2.Dial("n1", time.Second) // never accepted
	if err != nil {
		t.Fatal(err)
	}
	unblocked := make(chan error, 1)
	l1.Close()
	go func() { _, err := l1.Accept(); unblocked <- err }()
	if err := <-unblocked; !errors.Is(err, ErrClosed) {
		t.Errorf("accept: %v", err)
	}
	if _, err := acc.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accepted connection: %v", err)
	}
	mustEnd(t, dialled)
	mustEnd(t, waiting)
	if _, err := l1.Dial("n2", time.Second); !errors.Is(err, ErrClosed) {
		t.Errorf("dial: %v", err)
	}
	if _, err := l2.Dial("n1", time.Second); !errors.Is(err, ErrUnknownGroup) {
		t.Errorf("dial a closed group: %v", err)
	}
	// The group may be opened again.
	l1 = n1.GroupLayer(1)
	if _, err := l2.Dial("n1", time.Second); err != nil {
		t.Errorf("dial the reopened group: %v", err)
	}
	if _, err := l1.Accept(); err != nil {
		t.Error(err)
	}
}

func TestDialEndsWithItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := transporttest.NewHub()
		b := book{}
		open := func(id string) *ClusterPort {
			return openNode(t, b, id, "c1", func(c *ClusterConfig) { c.Network, c.Addr = hub.Node(id), id+":1" })
		}
		n1, n2 := open("n1"), open("n2")
		n1.GroupLayer(1)
		l := n2.GroupLayer(1)
		hub.Cut("n2", "n1") // nothing gets there
		start := time.Now()
		if _, err := l.Dial("n1", time.Second); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("connect: %v after %v", err, time.Since(start))
		}
		hub.HealAll()
		hub.SetDelay("n1", "n2", 600*time.Millisecond, 0) // the connection comes, the answer is late
		start = time.Now()
		if _, err := l.Dial("n1", time.Second); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("answer: %v after %v", err, time.Since(start))
		}
		if _, err := l.Dial("nobody", time.Second); !errors.Is(err, ErrUnknownNode) {
			t.Error(err)
		}
		// Closing ends a dial.
		hub.Cut("n2", "n1")
		res := make(chan error, 1)
		go func() { _, err := l.Dial("n1", time.Minute); res <- err }()
		synctest.Wait()
		start = time.Now()
		l.Close()
		if err := <-res; !errors.Is(err, ErrClosed) || time.Since(start) != 0 {
			t.Errorf("dial while closing: %v after %v", err, time.Since(start))
		}
		n1.Close()
		n2.Close()
	})
}

// The handshake deadlines end with the handshake.
func TestEstablishedConnectionsLive(t *testing.T) {
	for _, secure := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			hub := transporttest.NewHub()
			b := book{}
			ca := newAuthority(t)
			open := func(id string) *ClusterPort {
				return openNode(t, b, id, "c1", func(c *ClusterConfig) {
					c.Network, c.Addr = hub.Node(id), id+":1"
					if secure {
						c.TLS = ca.config(ca.node("c1", id))
					}
				})
			}
			n1, n2 := open("n1"), open("n2")
			l := n1.GroupLayer(1)
			c, err := n2.GroupLayer(1).Dial("n1", time.Second)
			if err != nil {
				t.Fatal(err)
			}
			s, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				time.Sleep(time.Minute)
				mustWrite(t, c, "there")
				mustRead(t, s, "there")
				mustWrite(t, s, "back")
				mustRead(t, c, "back")
			}
			n1.Close()
			n2.Close()
		})
	}
}

// Close returns with idle, half-open and unaccepted connections, and leaves no
// goroutine (TestMain looks).
func TestClusterPortCloseWithLiveConnections(t *testing.T) {
	for _, secure := range []bool{false, true} {
		b := book{}
		ca := newAuthority(t)
		open := func(id string) *ClusterPort {
			return openNode(t, b, id, "c1", func(c *ClusterConfig) {
				c.Logger = zaptest.NewLogger(t)
				c.HandshakeTimeout = time.Minute
				if secure {
					c.TLS = ca.config(ca.node("c1", id))
				}
			})
		}
		n1, n2 := open("n1"), open("n2")
		n1.GroupLayer(1)
		dialRaw(t, nil, n1.Addr()) // silent
		mustWrite(t, dialRaw(t, nil, n1.Addr()), "\xf1")
		mustWrite(t, dialRaw(t, nil, n1.Addr()), "\xf1\x0f\x7a\x01\x01")
		mustWrite(t, dialRaw(t, nil, n1.Addr()), "\x16\x03\x01")
		if _, err := n2.GroupLayer(1).Dial("n1", time.Second); err != nil {
			t.Fatal(err)
		}
		got := acceptPeer(n1)
		if _, _, err := n2.DialPeer(t.Context(), "n1", KindPeer); err != nil {
			t.Fatal(err)
		}
		<-got
		blocked := acceptPeer(n1)
		start := time.Now()
		n1.Close()
		if d := time.Since(start); d > time.Second {
			t.Errorf("tls=%v: close took %v", secure, d)
		}
		if a := <-blocked; !errors.Is(a.err, ErrClosed) {
			t.Errorf("accept: %v", a.err)
		}
		n1.Close() // again
		if _, _, err := n1.DialPeer(t.Context(), "n2", KindPeer); !errors.Is(err, ErrClosed) {
			t.Errorf("dial: %v", err)
		}
		if _, err := n1.GroupLayer(9).Accept(); !errors.Is(err, ErrClosed) {
			t.Errorf("layer: %v", err)
		}
	}
}
