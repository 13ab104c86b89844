package transport

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flotilla-mqtt/flotilla/transport/transporttest"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// pair is a certificate in two files.
type pair struct {
	t         testing.TB
	cert, key string
}

func newPair(t testing.TB) *pair {
	dir := t.TempDir()
	return &pair{t, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
}

func (p *pair) write(path, kind string, blocks ...[]byte) {
	p.t.Helper()
	var out []byte
	for _, b := range blocks {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b})...)
	}
	if err := os.WriteFile(path, out, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pair) put(c tls.Certificate) { p.putCert(c); p.putKey(c) }

func (p *pair) putCert(c tls.Certificate) {
	p.t.Helper()
	p.write(p.cert, "CERTIFICATE", c.Certificate...)
}

func (p *pair) putKey(c tls.Certificate) {
	p.t.Helper()
	der, err := x509.MarshalECPrivateKey(c.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		p.t.Fatal(err)
	}
	p.write(p.key, "EC PRIVATE KEY", der)
}

// named issues a certificate of the server with this common name.
func (a *authority) named(name string, edit ...func(*x509.Certificate)) tls.Certificate {
	return a.issue(func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: name}
		c.DNSNames = []string{"mqtt.example"}
		for _, e := range edit {
			e(c)
		}
	})
}

// rig is a port with certificate files, in a bubble.
type rig struct {
	*pair
	p    *ClientPort
	hub  *transporttest.Hub
	ca   *authority
	reg  *prometheus.Registry
	logs *observer.ObservedLogs
}

func newRig(t *testing.T, edit func(*rig, *TLSFiles)) *rig {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	r := &rig{pair: newPair(t), hub: transporttest.NewHub(), ca: newAuthority(t), reg: prometheus.NewRegistry(), logs: logs}
	r.put(r.ca.named("one"))
	files := &TLSFiles{Cert: r.cert, Key: r.key}
	if edit != nil {
		edit(r, files)
	}
	r.p = openClients(t, func(c *ClientConfig) {
		c.Network, c.Addr, c.TLSFiles, c.Registerer, c.Logger = r.hub.Node("n1"), "n1:8883", files, r.reg, zap.New(core)
	})
	return r
}

// handshake connects with TLS. The connection is accepted if there is no error.
func (r *rig) handshake(edit func(*tls.Config)) (*tls.Conn, *Conn, error) {
	r.t.Helper()
	conf := &tls.Config{RootCAs: r.ca.pool, ServerName: "mqtt.example"}
	if edit != nil {
		edit(conf)
	}
	c := tls.Client(dialRaw(r.t, r.hub.Node("x"), r.p.Addr()), conf)
	if err := c.Handshake(); err != nil {
		return c, nil, err
	}
	if _, err := c.Write([]byte{firstMQTT}); err != nil {
		return c, nil, err
	}
	arrived := make(chan *Conn, 1)
	go func() {
		if s, err := r.p.Accept(); err == nil {
			arrived <- s
		}
	}()
	over := make(chan error, 1)
	go func() { _, err := c.Read(make([]byte, 1)); over <- err }()
	select {
	case s := <-arrived:
		s.Established()
		_ = s.SetReadDeadline(time.Time{})
		mustRead(r.t, s, "\x10")
		mustWrite(r.t, s, "!")
		return c, s, <-over
	case err := <-over: // TLS 1.3 tells a client that it is refused after its handshake
		_ = r.p.Close() // ends Accept
		return c, nil, err
	}
}

// serves wants new connections to get the certificate with this name.
func (r *rig) serves(name string) (*tls.Conn, *Conn) {
	r.t.Helper()
	c, s, err := r.handshake(nil)
	if err != nil {
		r.t.Fatalf("%s: %v", name, err)
	}
	if got := c.ConnectionState().PeerCertificates[0].Subject.CommonName; got != name {
		r.t.Fatalf("served by %q, want %q", got, name)
	}
	return c, s
}

func (r *rig) reloads(result string) float64 {
	return metric(r.t, r.reg, "flotilla_tls_reloads_total", "result", result)
}

func (r *rig) events(event string) int {
	return r.logs.FilterField(zap.String("event", event)).Len()
}

// New connections get the new certificate within an interval; connections that
// exist stay. Broken files change nothing, and are reported once.
func TestCertificateRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		type both struct {
			client *tls.Conn
			server *Conn
		}
		var open []both
		connect := func(name string) {
			c, s := r.serves(name)
			open = append(open, both{c, s})
			for i, o := range open { // all of them live
				mustWrite(t, o.client, "ping")
				mustRead(t, o.server, "ping")
				mustWrite(t, o.server, fmt.Sprint("pong", i))
				mustRead(t, o.client, fmt.Sprint("pong", i))
			}
		}
		connect("one")
		two := r.ca.named("two", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(90 * 24 * time.Hour) })
		r.putCert(two) // the key is still the old one
		time.Sleep(30 * time.Second)
		connect("one")
		if n := r.reloads("failed"); n != 1 || r.events("tls.reload_failed") != 1 {
			t.Errorf("half a pair: %v failures, %d events in 3 looks", n, r.events("tls.reload_failed"))
		}
		r.putKey(two)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		connect("two")
		if r.reloads("ok") != 1 || r.events("tls.reloaded") != 1 {
			t.Errorf("%v reloads, %d events", r.reloads("ok"), r.events("tls.reloaded"))
		}
		notAfter := metric(t, r.reg, "flotilla_tls_certificate_not_after_timestamp_seconds", "listener", "mqtts")
		if want := float64(time.Now().Add(90*24*time.Hour - 40*time.Second).Unix()); notAfter != want {
			t.Errorf("certificate ends at %v, want %v", notAfter, want)
		}
		for name, spoil := range map[string]func(){
			"empty":    func() { r.write(r.cert, "CERTIFICATE") },
			"garbage":  func() { _ = os.WriteFile(r.cert, []byte("garbage"), 0o600) },
			"gone":     func() { _ = os.Remove(r.cert) },
			"too long": func() { _ = os.WriteFile(r.cert, make([]byte, maxPEM+1), 0o600) },
			"expired": func() {
				r.put(r.ca.named("old", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }))
			},
			"early": func() {
				r.put(r.ca.named("new", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }))
			},
			"key only": func() { r.putKey(r.ca.named("other")) },
		} {
			before := r.reloads("failed")
			spoil()
			if err := r.p.ReloadTLS(); !errors.Is(err, ErrTLSFiles) {
				t.Errorf("%s: %v", name, err)
			}
			if r.reloads("failed") != before+1 {
				t.Errorf("%s: not counted", name)
			}
			connect("two")
			r.put(two) // back again: nothing to do
			if err := r.p.ReloadTLS(); err != nil {
				t.Errorf("%s: back: %v", name, err)
			}
		}
		r.put(r.ca.named("three"))
		if err := r.p.ReloadTLS(); err != nil {
			t.Fatal(err)
		}
		connect("three")
		r.p.Close()
	})
}

func TestCertificateEndsSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil) // for one day
		if n := r.events("tls.expiring"); n != 1 {
			t.Errorf("%d warnings at the start", n)
		}
		time.Sleep(49 * time.Hour)
		if n := r.events("tls.expiring"); n != 3 {
			t.Errorf("%d warnings after two days", n)
		}
		r.put(r.ca.named("two", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(90 * 24 * time.Hour) }))
		time.Sleep(49 * time.Hour)
		if n := r.events("tls.expiring"); n != 3 {
			t.Errorf("%d warnings after the rotation", n)
		}
		r.p.Close()
	})
}

// Client certificates: none, perhaps, always; of the CA, of another one.
func TestClientCertificates(t *testing.T) {
	for name, c := range map[string]struct {
		auth   ClientAuth
		show   string // "", own, other
		in     bool
		common string
	}{
		"none asked, none shown":    {ClientAuthNone, "", true, ""},
		"none asked, one there":     {ClientAuthNone, "own", true, ""},
		"requested, none shown":     {ClientAuthRequest, "", true, ""},
		"requested, shown":          {ClientAuthRequest, "own", true, "device"},
		"requested, of another CA":  {ClientAuthRequest, "other", false, ""},
		"required, none shown":      {ClientAuthRequire, "", false, ""},
		"required, shown":           {ClientAuthRequire, "own", true, "device"},
		"required, of another CA":   {ClientAuthRequire, "other", false, ""},
		"required, expired":         {ClientAuthRequire, "expired", false, ""},
		"required, not for clients": {ClientAuthRequire, "server", false, ""},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, func(r *rig, f *TLSFiles) {
					f.ClientAuth = c.auth
					if c.auth != ClientAuthNone {
						f.ClientCA = filepath.Join(t.TempDir(), "ca.pem")
						r.write(f.ClientCA, "CERTIFICATE", r.ca.cert.Raw)
					}
				})
				var shown []tls.Certificate
				switch c.show {
				case "own":
					shown = append(shown, r.ca.named("device"))
				case "other":
					shown = append(shown, newAuthority(t).named("device"))
				case "expired":
					shown = append(shown, r.ca.named("device", func(x *x509.Certificate) { x.NotAfter = time.Now().Add(-time.Minute) }))
				case "server":
					shown = append(shown, r.ca.named("device", func(x *x509.Certificate) {
						x.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
					}))
				}
				_, s, err := r.handshake(func(conf *tls.Config) {
					conf.MaxVersion = version
					conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
						if len(shown) == 0 {
							return &tls.Certificate{}, nil
						}
						return &shown[0], nil
					}
				})
				if (err == nil) != c.in {
					t.Fatalf("%s: %v", name, err)
				}
				synctest.Wait()
				if c.in && s.CommonName() != c.common {
					t.Errorf("%s: common name %q", name, s.CommonName())
				}
				if !c.in && metric(t, r.reg, "flotilla_listener_rejected_total", "reason", reasonTLS) != 1 {
					t.Errorf("%s: not counted", name)
				}
				r.p.Close()
			})
		}
	}
}

// A client whose CA was taken away does not come back by resuming its session.
func TestClientCARotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var caFile string
		r := newRig(t, func(r *rig, f *TLSFiles) {
			caFile = filepath.Join(t.TempDir(), "ca.pem")
			f.ClientAuth, f.ClientCA = ClientAuthRequire, caFile
			r.write(caFile, "CERTIFICATE", r.ca.cert.Raw)
		})
		device := r.ca.named("device")
		cache := tls.NewLRUClientSessionCache(8)
		show := func(conf *tls.Config) {
			conf.Certificates, conf.ClientSessionCache = []tls.Certificate{device}, cache
		}
		first, s, err := r.handshake(show)
		if err != nil {
			t.Fatal(err)
		}
		again, resumed, err := r.handshake(show)
		if err == nil && resumed.CommonName() != "device" {
			t.Errorf("resumed as %q", resumed.CommonName())
		}
		if err != nil || !again.ConnectionState().DidResume {
			t.Fatalf("no resumption to take away: %v", err)
		}
		r.write(caFile, "CERTIFICATE", newAuthority(t).cert.Raw)
		if err := r.p.ReloadTLS(); err != nil {
			t.Fatal(err)
		}
		mustWrite(t, first, "still here") // what exists, stays
		mustRead(t, s, "still here")
		if _, _, err := r.handshake(show); err == nil {
			t.Error("let in without its CA")
		}
		r.p.Close()
	})
}

func TestALPN(t *testing.T) {
	for name, c := range map[string]struct {
		ours, theirs []string
		want         string
		refused      bool
	}{
		"none asked":    {nil, nil, "", false},
		"mqtt":          {nil, []string{"mqtt"}, "mqtt", false},
		"our order":     {nil, []string{"h2", "x-amzn-mqtt-ca", "mqtt"}, "mqtt", false},
		"AWS":           {nil, []string{"x-amzn-mqtt-ca"}, "x-amzn-mqtt-ca", false},
		"WebSocket":     {nil, []string{"h2", "http/1.1"}, "http/1.1", false},
		"unknown":       {nil, []string{"h2", "smtp"}, "", true},
		"own list":      {[]string{"mqtt5"}, []string{"mqtt", "mqtt5"}, "mqtt5", false},
		"not in list":   {[]string{"mqtt5"}, []string{"mqtt"}, "", true},
		"own list, web": {[]string{"mqtt5"}, []string{"http/1.1"}, "http/1.1", false},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, func(_ *rig, f *TLSFiles) { f.ALPN = c.ours })
			conn, _, err := r.handshake(func(conf *tls.Config) { conf.NextProtos = c.theirs })
			if (err != nil) != c.refused {
				t.Fatalf("%s: %v", name, err)
			}
			if got := conn.ConnectionState().NegotiatedProtocol; got != c.want {
				t.Errorf("%s: %q, want %q", name, got, c.want)
			}
			r.p.Close()
		})
	}
}

func TestTLSVersions(t *testing.T) {
	for _, c := range []struct {
		least, most uint16
		in          bool
	}{
		{0, tls.VersionTLS11, false}, {0, tls.VersionTLS12, true}, {0, tls.VersionTLS13, true},
		{tls.VersionTLS13, tls.VersionTLS12, false}, {tls.VersionTLS13, tls.VersionTLS13, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, func(_ *rig, f *TLSFiles) { f.MinVersion = c.least })
			conn, _, err := r.handshake(func(conf *tls.Config) { conf.MinVersion, conf.MaxVersion = tls.VersionTLS10, c.most })
			if (err == nil) != c.in || c.in && conn.ConnectionState().Version != c.most {
				t.Errorf("least %x, client %x: %v", c.least, c.most, err)
			}
			r.p.Close()
		})
	}
}

func TestTLSFilesFailClosed(t *testing.T) {
	ca := newAuthority(t)
	good := newPair(t)
	good.put(ca.named("good"))
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*TLSFiles){
		"no key":               func(f *TLSFiles) { f.Key = "" },
		"no certificate":       func(f *TLSFiles) { f.Cert = "" },
		"missing file":         func(f *TLSFiles) { f.Cert += ".not" },
		"key as certificate":   func(f *TLSFiles) { f.Cert = f.Key },
		"empty certificate":    func(f *TLSFiles) { f.Cert = empty },
		"auth without CA":      func(f *TLSFiles) { f.ClientAuth = ClientAuthRequest },
		"CA without auth":      func(f *TLSFiles) { f.ClientCA = f.Cert },
		"empty CA":             func(f *TLSFiles) { f.ClientAuth, f.ClientCA = ClientAuthRequire, empty },
		"missing CA":           func(f *TLSFiles) { f.ClientAuth, f.ClientCA = ClientAuthRequire, empty+".not" },
		"TLS 1.1":              func(f *TLSFiles) { f.MinVersion = tls.VersionTLS11 },
		"unknown kind of auth": func(f *TLSFiles) { f.ClientAuth = 7 },
	} {
		files := &TLSFiles{Cert: good.cert, Key: good.key}
		edit(files)
		p, err := OpenClientPort(ClientConfig{Addr: "127.0.0.1:0", TLSFiles: files})
		if !errors.Is(err, ErrConfig) && !errors.Is(err, ErrTLSFiles) {
			t.Errorf("%s: %v", name, err)
			if p != nil {
				p.Close()
			}
		}
	}
	_, err := OpenClientPort(ClientConfig{Addr: "127.0.0.1:0", TLSFiles: &TLSFiles{Cert: good.cert, Key: good.key}, TLS: ca.config(ca.named("x"))})
	if !errors.Is(err, ErrConfig) {
		t.Errorf("files and TLS: %v", err)
	}
	for s, want := range map[string]ClientAuth{"": ClientAuthNone, "none": ClientAuthNone, "request": ClientAuthRequest, "require": ClientAuthRequire} {
		if got, err := ParseClientAuth(s); err != nil || got != want {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	if _, err := ParseClientAuth("required"); !errors.Is(err, ErrConfig) {
		t.Errorf("required: %v", err)
	}
}

// The caller's list of protocols is not written to.
func TestALPNListIsNotShared(t *testing.T) {
	ca := newAuthority(t)
	files := newPair(t)
	files.put(ca.named("x"))
	list := append(make([]string, 0, 4), "mqtt")
	openClients(t, func(c *ClientConfig) { c.TLSFiles = &TLSFiles{Cert: files.cert, Key: files.key, ALPN: list} })
	if rest := list[:2]; slices.Contains(rest, alpnHTTP) {
		t.Error("the caller's list was written to")
	}
}

// IPv6, and both families on one port.
func TestAddressFamilies(t *testing.T) {
	for _, c := range []struct{ listen, dial, client string }{
		{"[::1]:0", "[::1]", "[::1]"}, {"[::]:0", "[::1]", "[::1]"}, {"[::]:0", "127.0.0.1", "127.0.0.1"}, {":0", "127.0.0.1", "127.0.0.1"},
		{"127.0.0.1:0", "127.0.0.1", "127.0.0.1"}, {"0.0.0.0:0", "127.0.0.1", "127.0.0.1"},
	} {
		p, err := OpenClientPort(ClientConfig{Addr: c.listen})
		if err != nil && strings.HasPrefix(c.listen, "[") {
			t.Skipf("no IPv6 here: %v", err)
		} else if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(p.Addr().String())
		conn, err := net.Dial("tcp", c.dial+":"+port)
		if err != nil {
			t.Fatalf("%s from %s: %v", c.listen, c.dial, err)
		}
		mustWrite(t, conn, "\x10")
		s := mustServe(t, p)
		if got := s.RemoteAddr().String(); !strings.HasPrefix(got, c.client+":") {
			t.Errorf("%s from %s: client %s", c.listen, c.dial, got)
		}
		conn.Close()
		p.Close()
	}
}
