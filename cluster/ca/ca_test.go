package ca

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/transport"
)

func newAuthority(t *testing.T, cluster string) *Authority {
	t.Helper()
	a, err := New(cluster, DefaultLife)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func parse(t *testing.T, text []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(find(text, pemCertificate))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (a *Authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func verify(c *x509.Certificate, a *Authority) error {
	for _, u := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		if _, err := c.Verify(x509.VerifyOptions{Roots: a.pool(), KeyUsages: []x509.ExtKeyUsage{u}}); err != nil {
			return err
		}
	}
	return nil
}

// What is issued is what package transport demands, for both uses.
func TestIssuedCertificateProvesTheNode(t *testing.T) {
	a := newAuthority(t, "")
	if len(a.ClusterID()) != 32 {
		t.Errorf("cluster id %q", a.ClusterID())
	}
	i, err := a.Issue("n1", NodeLife)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(i.Cert, i.Key); err != nil {
		t.Error(err)
	}
	c := parse(t, i.Cert)
	cluster, node, err := transport.CertificateIdentity(c)
	if err != nil || cluster != a.ClusterID() || node != "n1" {
		t.Errorf("cluster %q node %q, %v", cluster, node, err)
	}
	if err := verify(c, a); err != nil {
		t.Error(err)
	}
	if err := verify(c, newAuthority(t, a.ClusterID())); err == nil {
		t.Error("another authority of the same cluster id vouches for it")
	}
	state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}}
	if err := transport.VerifyNodeCertificate(state, a.ClusterID(), "n1"); err != nil {
		t.Error(err)
	}
	for _, other := range [][2]string{{"c2", "n1"}, {a.ClusterID(), "n2"}} {
		if err := transport.VerifyNodeCertificate(state, other[0], other[1]); !errors.Is(err, transport.ErrCertificate) {
			t.Errorf("%v: %v", other, err)
		}
	}
	if left := time.Until(c.NotAfter); left > NodeLife || left < NodeLife-time.Hour {
		t.Errorf("lasts %v", left)
	}
}

// The authority can sign for its cluster's nodes only, whoever has stolen into its use.
func TestAuthorityIsForNodesOnly(t *testing.T) {
	a := newAuthority(t, "c1")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*x509.Certificate){
		"a device":        func(c *x509.Certificate) { c.DNSNames = []string{"device.example"} },
		"another cluster": func(c *x509.Certificate) { c.DNSNames = []string{transport.NodeDNSName("c2")} },
		"another cluster's node": func(c *x509.Certificate) {
			c.URIs = []*url.URL{transport.NodeURI("c2", "n1")}
		},
		"another authority": func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true },
	} {
		tmpl := &x509.Certificate{
			SerialNumber: big.NewInt(5), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		}
		edit(tmpl)
		der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if tmpl.IsCA { // it may exist, and sign nothing
			sub := &Authority{clusterID: "c1", cert: c, key: key}
			i, err := sub.Issue("n1", time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			between := x509.NewCertPool()
			between.AddCert(c)
			if _, err := parse(t, i.Cert).Verify(x509.VerifyOptions{Roots: a.pool(), Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil {
				t.Errorf("%s: what it signed is believed", name)
			}
			continue
		}
		if err := verify(c, a); err == nil {
			t.Errorf("%s: believed", name)
		}
	}
}

func TestSignTakesTheKeyOfTheRequestAndNothingElse(t *testing.T) {
	a := newAuthority(t, "c1")
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "root"}, DNSNames: []string{"evil.example"}, URIs: []*url.URL{transport.NodeURI("c1", "n9")},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	i, err := a.Sign("n4", encode(pemRequest, der), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c := parse(t, i.Cert)
	if cluster, node, err := transport.CertificateIdentity(c); err != nil || cluster != "c1" || node != "n4" {
		t.Errorf("cluster %q node %q, %v", cluster, node, err)
	}
	if len(c.DNSNames) != 1 || len(c.URIs) != 1 || c.Subject.CommonName != "n4" || !samePublic(key.Public(), c.PublicKey) || i.Key != nil {
		t.Errorf("names %v %v %q", c.DNSNames, c.URIs, c.Subject)
	}
	request, nodeKey, err := Request("n5")
	if err != nil {
		t.Fatal(err)
	}
	if i, err = a.Sign("n5", request, time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(i.Cert, nodeKey); err != nil {
		t.Error(err)
	}
}

func TestRefusals(t *testing.T) {
	a := newAuthority(t, "c1")
	request := func(key any) []byte {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			t.Fatal(err)
		}
		return encode(pemRequest, der)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	small, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, good, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	forged := request(good)
	forged[len(forged)-60] ^= 1 // within the signature, or else the text
	for name, text := range map[string][]byte{
		"RSA 1024": request(weak), "P-224": request(small), "nothing": nil, "garbage": []byte("garbage"), "forged": forged,
		"a certificate": a.CertPEM(), "too long": make([]byte, maxRequest+1),
	} {
		if _, err := a.Sign("n1", text, time.Hour); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := a.Sign("n1", request(good), time.Hour); err != nil {
		t.Errorf("Ed25519: %v", err)
	}
	for _, id := range []string{"", "..", ".n1", "-n1", "a/b", "a b", "n\x00", "ü", strings.Repeat("n", 129)} {
		if _, err := a.Issue(id, time.Hour); !errors.Is(err, ErrInvalid) {
			t.Errorf("node %q: %v", id, err)
		}
	}
	for _, id := range []string{"a.b", "-a", "a-", "a b", "ü", strings.Repeat("c", 64)} {
		if _, err := New(id, time.Hour); !errors.Is(err, ErrInvalid) {
			t.Errorf("cluster %q: %v", id, err)
		}
	}
	for _, life := range []time.Duration{0, -time.Hour} {
		if _, err := a.Issue("n1", life); !errors.Is(err, ErrInvalid) {
			t.Errorf("life %v: %v", life, err)
		}
		if _, err := New("c1", life); !errors.Is(err, ErrInvalid) {
			t.Errorf("authority with life %v: %v", life, err)
		}
	}
}

// Nothing outlives the authority.
func TestNoCertificateOutlivesItsAuthority(t *testing.T) {
	a, err := New("c1", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	i, err := a.Issue("n1", NodeLife)
	if err != nil || !i.NotAfter.Equal(a.NotAfter()) {
		t.Errorf("ends %v, the authority %v; %v", i.NotAfter, a.NotAfter(), err)
	}
}

func TestFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	a := newAuthority(t, "")
	if err := a.Save(dir); err != nil {
		t.Fatal(err)
	}
	if err := newAuthority(t, "").Save(dir); !errors.Is(err, ErrExists) {
		t.Errorf("overwritten: %v", err)
	}
	back, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if back.ClusterID() != a.ClusterID() || back.Fingerprint() != a.Fingerprint() {
		t.Error("another authority came back")
	}
	i, err := back.Issue("n1", NodeLife)
	if err != nil {
		t.Fatal(err)
	}
	n1 := filepath.Join(dir, "n1")
	if err := back.SaveNode(n1, i, false); err != nil {
		t.Fatal(err)
	}
	again, err := back.Issue("n1", NodeLife)
	if err != nil {
		t.Fatal(err)
	}
	if err := back.SaveNode(n1, again, false); !errors.Is(err, ErrExists) {
		t.Errorf("overwritten: %v", err)
	}
	proof, err := transport.ClusterFiles{CA: filepath.Join(n1, CertFile), Cert: filepath.Join(n1, NodeCertFile), Key: filepath.Join(n1, NodeKeyFile)}.Read()
	if err != nil || proof.NodeID != "n1" || proof.ClusterID != a.ClusterID() {
		t.Errorf("%+v, %v", proof, err)
	}
	if err := back.SaveNode(n1, again, true); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(filepath.Join(n1, NodeCertFile)); string(b) != string(again.Cert) {
		t.Error("renewed, but the old certificate is there")
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if mode := info.Mode().Perm(); d.IsDir() && mode != 0o700 || !d.IsDir() && mode != 0o600 {
			t.Errorf("%s has mode %o", path, mode)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestDamagedAuthority(t *testing.T) {
	a, b := newAuthority(t, "c1"), newAuthority(t, "c1")
	key, err := a.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	other, err := b.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	i, err := a.Issue("n1", NodeLife)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string][2][]byte{
		"another key": {a.CertPEM(), other}, "no key": {a.CertPEM(), nil}, "no certificate": {nil, key}, "swapped": {key, a.CertPEM()},
		"a node's": {i.Cert, i.Key},
	} {
		if _, err := Load(c[0], c[1]); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Load(a.CertPEM(), key); err != nil {
		t.Error(err)
	}
}
