package integration

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/flotilla-mqtt/flotilla/cluster/ca"
	"github.com/flotilla-mqtt/flotilla/integration/harness"
	"github.com/flotilla-mqtt/flotilla/transport"
)

// The kinds of a preamble (transport/preamble.go), which is written by hand here: an attacker imports nothing.
const (
	kindRaft byte = 1
	kindPeer byte = 2
	kindJoin byte = 3
)

// preambleOf is what a node says first on the cluster port.
func preambleOf(kind byte, group uint32, cluster, from, to string) []byte {
	body := binary.BigEndian.AppendUint32(nil, group)
	for _, s := range []string{cluster, from, to} {
		body = append(append(body, byte(len(s))), s...)
	}
	return append([]byte{0xF1, 0x0F, 0x7A, kind, 1, byte(len(body) >> 8), byte(len(body))}, body...)
}

// answerOf reads the status of an answer, 0 if there is none.
func answerOf(conn net.Conn) byte {
	var h [8]byte
	if _, err := io.ReadFull(conn, h[:]); err != nil {
		return 0
	}
	_, _ = io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint16(h[6:])))
	return h[5]
}

// capture is a stream layer whose connections keep what is written and answer nothing: it makes real frames of raft's own transport.
type capture struct{ written []byte }

func (c *capture) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (c *capture) Close() error              { return nil }
func (c *capture) Addr() net.Addr            { return &net.TCPAddr{} }
func (c *capture) Dial(raft.ServerAddress, time.Duration) (net.Conn, error) {
	return &captured{c: c}, nil
}

type captured struct {
	net.Conn
	c *capture
}

func (c *captured) Write(b []byte) (int, error) {
	c.c.written = append(c.c.written, b...)
	return len(b), nil
}
func (c *captured) Read([]byte) (int, error)         { return 0, io.EOF }
func (c *captured) Close() error                     { return nil }
func (c *captured) SetDeadline(time.Time) error      { return nil }
func (c *captured) SetReadDeadline(time.Time) error  { return nil }
func (c *captured) SetWriteDeadline(time.Time) error { return nil }

// raftAttacks are the frames of section 8 of the invariants, as raft writes them.
func raftAttacks() map[string][]byte {
	const term = 1 << 62
	evil := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("n2"), Addr: []byte("n2")}
	mine := raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "n2", Address: "n2"}}})
	frames := map[string][]byte{}
	for name, send := range map[string]func(*raft.NetworkTransport){
		"AppendEntries from the beginning": func(n *raft.NetworkTransport) {
			_ = n.AppendEntries("x", "x", &raft.AppendEntriesRequest{RPCHeader: evil, Term: term, LeaderCommitIndex: 1 << 40,
				Entries: []*raft.Log{{Index: 1, Term: term, Type: raft.LogCommand, Data: []byte("mine")}}}, &raft.AppendEntriesResponse{})
		},
		"malformed configuration": func(n *raft.NetworkTransport) {
			_ = n.AppendEntries("x", "x", &raft.AppendEntriesRequest{RPCHeader: evil, Term: term, LeaderCommitIndex: 1,
				Entries: []*raft.Log{{Index: 1, Term: term, Type: raft.LogConfiguration, Data: []byte{0xC1, 0xFF, 0xFF}}}}, &raft.AppendEntriesResponse{})
		},
		"InstallSnapshot": func(n *raft.NetworkTransport) {
			_ = n.InstallSnapshot("x", "x", &raft.InstallSnapshotRequest{RPCHeader: evil, SnapshotVersion: 1, Term: term, LastLogIndex: 1 << 40,
				LastLogTerm: term, Configuration: mine, ConfigurationIndex: 1, Size: 4}, &raft.InstallSnapshotResponse{}, strings.NewReader("mine"))
		},
		"TimeoutNow": func(n *raft.NetworkTransport) {
			_ = n.TimeoutNow("x", "x", &raft.TimeoutNowRequest{RPCHeader: evil}, &raft.TimeoutNowResponse{})
		},
		"RequestVote": func(n *raft.NetworkTransport) {
			_ = n.RequestVote("x", "x", &raft.RequestVoteRequest{RPCHeader: evil, Term: term, LastLogIndex: 1 << 40, LastLogTerm: term, LeadershipTransfer: true},
				&raft.RequestVoteResponse{})
		},
	} {
		c := &capture{}
		n := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: c, MaxPool: 1, MaxRPCsInFlight: 1, Timeout: time.Second})
		send(n)
		_ = n.Close()
		frames[name] = c.written
	}
	return frames
}

// forge signs a certificate with the key of an authority, past its rules.
func forge(t *testing.T, a *ca.Authority, edit func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	text, err := a.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(a.CertPEM(), text)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		Subject: pkix.Name{CommonName: "device"}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	edit(tmpl)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, pair.Leaf, key.Public(), pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// issued is the certificate of a node, in order.
func issued(t *testing.T, a *ca.Authority, node string) tls.Certificate {
	t.Helper()
	i, err := a.Issue(node, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(i.Cert, i.Key)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func newCA(t *testing.T, cluster string) *ca.Authority {
	t.Helper()
	a, err := ca.New(cluster, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// fortress is a cluster of three whose cluster port is attacked. Streams to its first node pass a recorder.
type fortress struct {
	t         *testing.T
	c         *harness.Cluster
	authority *ca.Authority // nil: no TLS
	rec       *recorder
	clusterID string
	extra     map[string][]string // flags by node
}

func newFortress(t *testing.T, secure bool) *fortress {
	t.Helper()
	f := &fortress{t: t, c: harness.New(t, harness.Options{Nodes: 3, Flags: []string{"--set", "placement.stable_for=1s"}}), extra: map[string][]string{}}
	if secure {
		f.authority = newCA(t, "")
	}
	f.rec = newRecorder(t, f.c.Nodes[0].ClusterAddr())
	f.extra["n1"] = []string{"--advertise-addr", f.rec.addr()}
	for _, n := range f.c.Nodes {
		f.launch(n)
	}
	for _, n := range f.c.Nodes {
		n.WaitReady(t)
	}
	f.c.WaitHealthy(t, patience)
	s, err := f.c.Nodes[0].Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.clusterID = s.ClusterID
	if secure && f.clusterID != f.authority.ClusterID() {
		t.Fatalf("the cluster is %s, its certificates say %s", f.clusterID, f.authority.ClusterID())
	}
	return f
}

// launch starts a node with its certificate.
func (f *fortress) launch(n *harness.Node) {
	f.t.Helper()
	extra := f.extra[n.ID]
	if f.authority != nil {
		dir := filepath.Join(f.t.TempDir(), n.ID)
		i, err := f.authority.Issue(n.ID, time.Hour)
		if err == nil {
			err = f.authority.SaveNode(dir, i, false)
		}
		if err != nil {
			f.t.Fatal(err)
		}
		for key, file := range map[string]string{"ca": ca.CertFile, "cert": ca.NodeCertFile, "key": ca.NodeKeyFile} {
			extra = append(extra, "--set", "cluster.tls."+key+"="+filepath.Join(dir, file))
		}
	}
	if err := n.Launch(extra...); err != nil {
		f.t.Fatal(err)
	}
}

// order is what an attack must leave as it was: members, and for each group term, leader and voters.
func (f *fortress) order() (string, uint64) {
	f.t.Helper()
	var text strings.Builder
	var highest uint64
	harness.Wait(f.t, patience, "every group to have a leader", func(ctx context.Context) error {
		text.Reset()
		s, err := f.c.Nodes[0].Status(ctx)
		if err != nil {
			return err
		}
		for _, n := range s.Nodes {
			fmt.Fprintf(&text, "%s %s\n", n.ID, n.State)
		}
		for _, g := range s.Groups {
			if g.Leader == nil {
				return fmt.Errorf("group %d has none", g.ID)
			}
			highest = max(highest, g.Term)
			fmt.Fprintf(&text, "group %d term %d leader %s voters %v\n", g.ID, g.Term, *g.Leader, g.Replicas)
		}
		return nil
	})
	return text.String(), highest
}

// refused sums what the nodes turned away at the cluster port, by reason.
func (f *fortress) refused() map[string]float64 {
	f.t.Helper()
	sums := map[string]float64{}
	for _, n := range f.c.Nodes {
		if !n.Running() {
			continue
		}
		m, err := n.Metrics(f.t.Context())
		if err != nil {
			f.t.Fatal(err)
		}
		for series, v := range m {
			if name, labels, _ := strings.Cut(series, "{"); name == "flotilla_listener_rejected_total" && strings.Contains(labels, `listener="cluster"`) {
				_, rest, _ := strings.Cut(labels, `reason="`)
				reason, _, _ := strings.Cut(rest, `"`)
				sums[reason] += v
			}
		}
	}
	return sums
}

// reasons are those of the events guard.refused on all nodes.
func (f *fortress) reasons() map[string]bool {
	seen := map[string]bool{}
	for _, n := range f.c.Nodes {
		for _, e := range n.Events("guard.refused") {
			seen[e.String("reason")] = true
		}
	}
	return seen
}

// assault runs attacks and wants the order kept, and each expected refusal counted and reported.
func (f *fortress) assault(name string, reasons []string, attack func(t *testing.T)) {
	f.t.Run(name, func(t *testing.T) {
		before, _ := f.order()
		counted, load := f.refused(), harness.Load()
		memory, _ := f.c.Nodes[0].Memory()
		attack(t)
		after, highest := f.order()
		if highest > 1<<20 || before != after && load < busyMachine {
			t.Errorf("the order has changed; before:\n%safter:\n%s", before, after)
		}
		now, events := f.refused(), f.reasons()
		for _, r := range reasons {
			if now[r] <= counted[r] {
				t.Errorf("no refusal was counted as %s; by reason: %v", r, now)
			}
			if !events[r] {
				t.Errorf("no event guard.refused has the reason %s, only %v", r, slices.Sorted(maps.Keys(events)))
			}
		}
		if grown, _ := f.c.Nodes[0].Memory(); grown > memory+memoryAllowance {
			t.Errorf("memory grew from %d to %d MiB", memory>>20, grown>>20)
		}
		healthy(t, f.c)
	})
}

// knock dials the cluster port of n1, in TLS with a certificate if conf is set, sends text at once and returns the status of the answer.
func (f *fortress) knock(conf *tls.Config, text ...[]byte) byte {
	raw, err := net.DialTimeout("tcp", f.c.Nodes[0].ClusterAddr(), 5*time.Second)
	if err != nil {
		return 0
	}
	defer raw.Close()
	conn := raw
	if conf != nil {
		conn = tls.Client(raw, conf)
	}
	_ = conn.SetDeadline(time.Now().Add(standstill))
	// In one piece: the frame is there before anybody could have said no.
	if _, err := conn.Write(slices.Concat(text...)); err != nil {
		return 0
	}
	return answerOf(conn)
}

// as is the TLS of an attacker with a certificate, which believes everybody.
func as(cert ...tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: cert, InsecureSkipVerify: true, MinVersion: tls.VersionTLS13} //nolint:gosec // an attacker does not care
}

// recorder passes connections on and keeps what the dialler sent.
type recorder struct {
	l      net.Listener
	target string
	wg     sync.WaitGroup

	mu      sync.Mutex
	streams []*stream // guarded by mu
	conns   []net.Conn
}

type stream struct {
	mu   sync.Mutex
	sent []byte
}

// recordMax bounds what is kept of one stream.
const recordMax = 4 << 20

func newRecorder(t *testing.T, target string) *recorder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{l: l, target: target}
	r.wg.Go(r.accept)
	t.Cleanup(func() {
		_ = l.Close()
		r.mu.Lock()
		for _, c := range r.conns {
			_ = c.Close()
		}
		r.mu.Unlock()
		r.wg.Wait()
	})
	return r
}

func (r *recorder) addr() string { return r.l.Addr().String() }

func (r *recorder) accept() {
	for {
		in, err := r.l.Accept()
		if err != nil {
			return
		}
		out, err := net.DialTimeout("tcp", r.target, standstill)
		if err != nil {
			_ = in.Close()
			continue
		}
		s := &stream{}
		r.mu.Lock()
		r.streams, r.conns = append(r.streams, s), append(r.conns, in, out)
		r.mu.Unlock()
		r.wg.Go(func() { s.copy(out, in) })
		r.wg.Go(func() { _, _ = io.Copy(in, out); _ = in.Close() })
	}
}

func (s *stream) copy(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		s.mu.Lock()
		if len(s.sent)+n <= recordMax {
			s.sent = append(s.sent, buf[:n]...)
		}
		s.mu.Unlock()
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// recorded are the streams until now.
func (r *recorder) recorded() (list [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.streams {
		s.mu.Lock()
		list = append(list, slices.Clone(s.sent))
		s.mu.Unlock()
	}
	return list
}

// nodeNames are what the certificate of a node carries.
func nodeNames(c *x509.Certificate, cluster, node string) {
	c.DNSNames, c.URIs = []string{transport.NodeDNSName(cluster)}, []*url.URL{transport.NodeURI(cluster, node)}
}

// pemOf is a text of no meaning in PEM form.
func pemOf(b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "GARBAGE", Bytes: b}) }
