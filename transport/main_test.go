package transport

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/transport/transporttest"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"
)

var _ Network = (*transporttest.Node)(nil)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// authority is a CA for tests. Make it inside a bubble: the clock differs.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
	next int64
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t, pool: x509.NewCertPool(), next: 2}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) issue(edit func(*x509.Certificate)) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(a.next), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	a.next++
	edit(tmpl)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// node issues the certificate of a node.
func (a *authority) node(cluster, node string) tls.Certificate {
	return a.issue(func(c *x509.Certificate) {
		c.DNSNames = []string{NodeDNSName(cluster)}
		c.URIs = []*url.URL{NodeURI(cluster, node)}
	})
}

func (a *authority) config(cert tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: a.pool, RootCAs: a.pool}
}

// book resolves node ids.
type book map[string]string

func (b book) resolve(id string) (string, bool) { a, ok := b[id]; return a, ok }

// openNode opens the cluster port of a node on a free port, and writes it down.
func openNode(t testing.TB, b book, id, cluster string, edit func(*ClusterConfig)) *ClusterPort {
	t.Helper()
	cfg := ClusterConfig{Addr: "127.0.0.1:0", NodeID: id, ClusterID: func() string { return cluster }, Resolve: b.resolve, Logger: zaptest.NewLogger(t)}
	if edit != nil {
		edit(&cfg)
	}
	p, err := OpenClusterPort(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	b[id] = p.Addr().String()
	return p
}

func openClients(t testing.TB, edit func(*ClientConfig)) *ClientPort {
	t.Helper()
	cfg := ClientConfig{Addr: "127.0.0.1:0", Logger: zaptest.NewLogger(t)}
	if edit != nil {
		edit(&cfg)
	}
	p, err := OpenClientPort(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func dialRaw(t testing.TB, nw Network, addr net.Addr) net.Conn {
	t.Helper()
	if nw == nil {
		nw = TCP{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := nw.Dial(ctx, addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func mustWrite(t testing.TB, c io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

func mustRead(t testing.TB, c io.Reader, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if n, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("read %d bytes %.80q, %v; want %.80q", n, b[:n], err, want)
	}
}

// mustEnd wants the connection closed by the other side, with nothing more to read.
func mustEnd(t testing.TB, c net.Conn) {
	t.Helper()
	n, err := c.Read(make([]byte, 1))
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d bytes, %v; want the end", n, err)
	}
}
