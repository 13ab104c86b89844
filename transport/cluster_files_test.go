package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/flotilla-mqtt/flotilla/transport/transporttest"
)

// secured are two nodes whose cluster ports have certificate files.
type secured struct {
	*pair  // of n1
	ca     *authority
	caFile string
	hub    *transporttest.Hub
	reg    *prometheus.Registry
	logs   *observer.ObservedLogs
	n1, n2 *ClusterPort
}

func newSecured(t *testing.T) *secured {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	s := &secured{pair: newPair(t), ca: newAuthority(t), hub: transporttest.NewHub(), reg: prometheus.NewRegistry(), logs: logs}
	s.caFile = filepath.Join(t.TempDir(), "ca.pem")
	s.write(s.caFile, "CERTIFICATE", s.ca.cert.Raw)
	s.put(s.ca.node("c1", "n1"))
	b := book{}
	s.n1 = openNode(t, b, "n1", "c1", func(c *ClusterConfig) {
		c.Network, c.Addr, c.TLSFiles = s.hub.Node("n1"), "n1:1", &ClusterFiles{CA: s.caFile, Cert: s.cert, Key: s.key}
		c.Registerer, c.Logger = s.reg, zap.New(core)
	})
	s.n2 = openNode(t, b, "n2", "c1", func(c *ClusterConfig) {
		c.Network, c.Addr, c.TLS = s.hub.Node("n2"), "n2:1", s.ca.config(s.ca.node("c1", "n2"))
	})
	return s
}

// link connects n2 to n1 and n1 to n2, and returns both ends of both.
func (s *secured) link(t *testing.T) (ends [][2]net.Conn) {
	t.Helper()
	for _, way := range [][2]*ClusterPort{{s.n2, s.n1}, {s.n1, s.n2}} {
		got := acceptPeer(way[1])
		c, info, err := way[0].DialPeer(t.Context(), way[1].cfg.NodeID, KindPeer)
		if err != nil {
			t.Fatal(err)
		}
		if !info.Verified {
			t.Error("not verified")
		}
		ends = append(ends, [2]net.Conn{c, (<-got).conn})
	}
	return ends
}

func talk(t *testing.T, ends [][2]net.Conn) {
	t.Helper()
	for _, e := range ends {
		mustWrite(t, e[0], "there")
		mustRead(t, e[1], "there")
		mustWrite(t, e[1], "back")
		mustRead(t, e[0], "back")
	}
}

// New connections show the new certificate, connections that exist go on; files that
// are broken, or another node's, change nothing.
func TestClusterCertificateRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSecured(t)
		open := s.link(t)
		talk(t, open)
		served := func() *x509.Certificate {
			tc := tls.Client(dialRaw(t, s.hub.Node("x"), s.n1.Addr()), clientTLS(s.ca.config(s.ca.node("c1", "n9")), "c1"))
			if err := tc.Handshake(); err != nil {
				t.Fatal(err)
			}
			defer tc.Close()
			return tc.ConnectionState().PeerCertificates[0]
		}
		reloads := func(result string) float64 {
			return metric(t, s.reg, "flotilla_tls_reloads_total", "result", result)
		}
		first := served()
		s.put(s.ca.node("c1", "n1"))
		time.Sleep(11 * time.Second)
		synctest.Wait()
		second := served()
		if second.SerialNumber.Cmp(first.SerialNumber) == 0 || reloads("ok") != 1 {
			t.Errorf("the old certificate is served on; %v reloads", reloads("ok"))
		}
		open = append(open, s.link(t)...)
		talk(t, open)
		stranger := newAuthority(t)
		for name, spoil := range map[string]func(){
			"another node's":    func() { s.put(s.ca.node("c1", "n2")) },
			"another cluster's": func() { s.put(s.ca.node("c2", "n1")) },
			"another CA's":      func() { s.put(stranger.node("c1", "n1")) },
			"a client's":        func() { s.put(s.ca.issue(func(c *x509.Certificate) { c.DNSNames = []string{NodeDNSName("c1")} })) },
			"gone":              func() { _ = os.Remove(s.cert) },
			"half a pair":       func() { s.put(s.ca.node("c1", "n1")); s.putKey(s.ca.node("c1", "n1")) },
		} {
			before := reloads("failed")
			spoil()
			if err := s.n1.ReloadTLS(); !errors.Is(err, ErrTLSFiles) || reloads("failed") != before+1 {
				t.Errorf("%s: %v, %v failures", name, err, reloads("failed")-before)
			}
			if served().SerialNumber.Cmp(second.SerialNumber) != 0 {
				t.Errorf("%s: taken over", name)
			}
		}
		s.put(s.ca.node("c1", "n1"))
		if err := s.n1.ReloadTLS(); err != nil {
			t.Fatal(err)
		}
		talk(t, append(open, s.link(t)...))
		s.n1.Close()
		s.n2.Close()
	})
}

// A CA is replaced by its successor without a moment in which nodes refuse each other.
func TestClusterCARotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSecured(t)
		next := newAuthority(t)
		s.write(s.caFile, "CERTIFICATE", s.ca.cert.Raw, next.cert.Raw)
		if err := s.n1.ReloadTLS(); err != nil {
			t.Fatal(err)
		}
		open := s.link(t)
		b := book{"n1": "n1:1"}
		both := next.pool.Clone()
		both.AddCert(s.ca.cert)
		n3 := openNode(t, b, "n3", "c1", func(c *ClusterConfig) {
			c.Network, c.Addr, c.TLS = s.hub.Node("n3"), "n3:1", &tls.Config{Certificates: []tls.Certificate{next.node("c1", "n3")}, RootCAs: both, ClientCAs: both}
		})
		if _, _, err := n3.DialPeer(t.Context(), "n1", KindPeer); err != nil {
			t.Errorf("a node of the next CA: %v", err)
		}
		s.write(s.caFile, "CERTIFICATE", next.cert.Raw)
		s.put(next.node("c1", "n1"))
		if err := s.n1.ReloadTLS(); err != nil {
			t.Fatal(err)
		}
		talk(t, open)
		if _, _, err := s.n2.DialPeer(t.Context(), "n1", KindPeer); err == nil {
			t.Error("a node of the former CA is let in")
		}
		for _, p := range []*ClusterPort{s.n1, s.n2, n3} {
			p.Close()
		}
	})
}

// Who is removed keeps no connection that was let in before.
func TestExpel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSecured(t)
		l1, l2 := s.n1.GroupLayer(1), s.n2.GroupLayer(1)
		raft, err := l2.Dial("n1", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l1.Accept(); err != nil {
			t.Fatal(err)
		}
		open := s.link(t)
		s.n1.Expel("n3")
		talk(t, open)
		s.n1.Expel("n2")
		mustEnd(t, raft)
		mustEnd(t, open[0][0])
		talk(t, open[1:]) // what n1 dialled is n1's own affair
		s.n1.Expel("n2")
		talk(t, append(s.link(t), open[1:]...)) // Admit decides about the next
		s.n1.Close()
		s.n2.Close()
	})
}

// Every refusal has a counter with a reason and an event that says the same.
func TestRefusalsAreCountedAndLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSecured(t)
		pre := string(appendPreamble(nil, preamble{version: 1, kind: KindPeer, cluster: "c1", from: "n2", to: "n1"}))
		secure := func(cert tls.Certificate, text string) {
			c := tls.Client(dialRaw(t, s.hub.Node("x"), s.n1.Addr()), clientTLS(s.ca.config(cert), "c1"))
			_, _ = c.Write([]byte(text))
			_, _ = readAnswer(c)
			_ = c.Close()
		}
		other := newAuthority(t)
		ended := s.ca.issue(func(c *x509.Certificate) {
			c.DNSNames, c.URIs, c.NotAfter = []string{NodeDNSName("c1")}, append(c.URIs, NodeURI("c1", "n2")), time.Now().Add(-time.Minute)
		})
		for name, c := range map[string]struct {
			reason string
			attack func()
		}{
			"in clear": {reasonNotTLS, func() {
				c := dialRaw(t, s.hub.Node("x"), s.n1.Addr())
				mustWrite(t, c, pre)
				_, _ = c.Read(make([]byte, 1))
			}},
			"no certificate": {reasonNoCertificate, func() { secure(tls.Certificate{}, pre) }},
			"another CA":     {reasonCertificate, func() { secure(other.node("c1", "n2"), pre) }},
			"ended":          {reasonCertificate, func() { secure(ended, pre) }},
			"another node":   {StatusCertificate.String(), func() { secure(s.ca.node("c1", "n3"), pre) }},
			"first byte":     {reasonFirstByte, func() { secure(s.ca.node("c1", "n2"), "GET / HTTP/1.1\r\n\r\n") }},
			"garbage":        {reasonPreamble, func() { secure(s.ca.node("c1", "n2"), pre[:4]+"\x01\xff\xff") }},
			"wrong node": {StatusWrongNode.String(), func() {
				secure(s.ca.node("c1", "n2"), string(appendPreamble(nil, preamble{version: 1, kind: KindPeer, cluster: "c1", from: "n2", to: "n7"})))
			}},
			"wrong cluster": {StatusWrongCluster.String(), func() {
				secure(s.ca.node("c1", "n2"), string(appendPreamble(nil, preamble{version: 1, kind: KindPeer, cluster: "c7", from: "n2", to: "n1"})))
			}},
			"silent": {reasonTimeout, func() {
				c := dialRaw(t, s.hub.Node("x"), s.n1.Addr())
				_, _ = c.Read(make([]byte, 1))
			}},
		} {
			before := metric(t, s.reg, "flotilla_listener_rejected_total", "reason", c.reason)
			s.logs.TakeAll()
			time.Sleep(2 * time.Second) // refusals of one reason are logged at a rate
			c.attack()
			synctest.Wait()
			if d := metric(t, s.reg, "flotilla_listener_rejected_total", "reason", c.reason) - before; d != 1 {
				t.Errorf("%s: counted %v times as %s", name, d, c.reason)
			}
			events := s.logs.FilterField(zap.String("event", "guard.refused")).FilterField(zap.String("reason", c.reason)).Len()
			if events != 1 {
				t.Errorf("%s: %d events with reason %s", name, events, c.reason)
			}
		}
		s.n1.Close()
		s.n2.Close()
	})
}

// A node that is in no cluster yet knows from its own certificate who may talk to it.
func TestAnotherClustersNodeBeforeThereIsACluster(t *testing.T) {
	b := book{}
	ca := newAuthority(t)
	n1 := openNode(t, b, "n1", "", func(c *ClusterConfig) { c.TLS = ca.config(ca.node("c1", "n1")) })
	n2 := openNode(t, b, "n2", "", func(c *ClusterConfig) { c.TLS = ca.config(ca.node("c2", "n2")) })
	for _, way := range [][2]*ClusterPort{{n1, n2}, {n2, n1}} {
		if _, _, err := way[0].DialPeer(t.Context(), way[1].Addr().String(), KindJoin); !errors.Is(err, ErrCertificate) {
			t.Errorf("%s to %s: %v", way[0].cfg.NodeID, way[1].cfg.NodeID, err)
		}
	}
}

func TestClusterFilesFailClosed(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	files := newPair(t)
	caFile := filepath.Join(t.TempDir(), "ca.pem")
	good := func() ClusterFiles {
		files.write(caFile, "CERTIFICATE", ca.cert.Raw)
		files.put(ca.node("c1", "n1"))
		return ClusterFiles{CA: caFile, Cert: files.cert, Key: files.key}
	}
	if p, err := good().Read(); err != nil || p != (Proof{"c1", "n1"}) {
		t.Fatalf("%+v, %v", p, err)
	}
	// An old certificate, or a clock that is wrong, is no reason not to start: it is reported.
	files.put(ca.issue(func(c *x509.Certificate) {
		c.DNSNames, c.URIs, c.NotAfter = []string{NodeDNSName("c1")}, append(c.URIs, NodeURI("c1", "n1")), time.Now().Add(-time.Minute)
	}))
	if _, err := (ClusterFiles{CA: caFile, Cert: files.cert, Key: files.key}).Read(); err != nil {
		t.Errorf("ended: %v", err)
	}
	usages := func(u ...x509.ExtKeyUsage) tls.Certificate {
		return ca.issue(func(c *x509.Certificate) {
			c.DNSNames, c.URIs, c.ExtKeyUsage = []string{NodeDNSName("c1")}, append(c.URIs, NodeURI("c1", "n1")), slices.Clone(u)
		})
	}
	for name, spoil := range map[string]func(*ClusterFiles){
		"no CA file":    func(f *ClusterFiles) { f.CA += ".not" },
		"no key":        func(f *ClusterFiles) { f.Key = f.Cert },
		"empty CA":      func(*ClusterFiles) { files.write(caFile, "NOTHING", nil) },
		"other CA":      func(*ClusterFiles) { files.write(caFile, "CERTIFICATE", other.cert.Raw) },
		"no node's":     func(*ClusterFiles) { files.put(ca.named("n1")) },
		"server only":   func(*ClusterFiles) { files.put(usages(x509.ExtKeyUsageServerAuth)) },
		"client only":   func(*ClusterFiles) { files.put(usages(x509.ExtKeyUsageClientAuth)) },
		"mismatched":    func(*ClusterFiles) { files.putKey(ca.node("c1", "n1")) },
		"not even PEM":  func(*ClusterFiles) { _ = os.WriteFile(files.cert, []byte("x"), 0o600) },
		"CA of nothing": func(f *ClusterFiles) { f.CA = "" },
	} {
		f := good()
		spoil(&f)
		if _, err := f.Read(); !errors.Is(err, ErrTLSFiles) {
			t.Errorf("%s: %v", name, err)
		}
		cfg := ClusterConfig{Addr: "127.0.0.1:0", NodeID: "n1", ClusterID: func() string { return "" }, Resolve: book{}.resolve, TLSFiles: &f}
		if p, err := OpenClusterPort(cfg); err == nil {
			t.Errorf("%s: opened", name)
			p.Close()
		}
	}
	f := good()
	cfg := ClusterConfig{Addr: "127.0.0.1:0", NodeID: "n1", ClusterID: func() string { return "" }, Resolve: book{}.resolve, TLSFiles: &f, TLS: ca.config(ca.node("c1", "n1"))}
	if _, err := OpenClusterPort(cfg); !errors.Is(err, ErrConfig) {
		t.Errorf("files and TLS: %v", err)
	}
}
