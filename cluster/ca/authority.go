package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"time"

	"github.com/flotilla-mqtt/flotilla/transport"
)

const (
	// DefaultLife is how long an authority lasts, NodeLife how long what it signs.
	DefaultLife = 10 * 365 * 24 * time.Hour
	NodeLife    = 365 * 24 * time.Hour
	// early is how much before now a certificate begins: clocks differ.
	early = 5 * time.Minute
	// caPath marks the name by which an authority's certificate says whose it is.
	caPath = "/ca"
)

// PEM types.
const (
	pemCertificate = "CERTIFICATE"
	pemKey         = "PRIVATE KEY"
	pemRequest     = "CERTIFICATE REQUEST"
)

// Authority signs the certificates of one cluster's nodes.
type Authority struct {
	clusterID string
	cert      *x509.Certificate
	key       crypto.Signer
}

// New makes an authority for a cluster, "" for one that does not exist yet.
func New(clusterID string, life time.Duration) (*Authority, error) {
	if clusterID == "" {
		var b [16]byte
		_, _ = rand.Read(b[:]) // never fails
		clusterID = hex.EncodeToString(b[:])
	}
	if !validCluster(clusterID) {
		return nil, fmt.Errorf("%w: cluster id %q: 1 to 63 letters, digits and hyphens", ErrInvalid, clusterID)
	}
	if life <= 0 {
		return nil, fmt.Errorf("%w: an authority that lasts %v", ErrInvalid, life)
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Flotilla cluster " + clusterID},
		NotBefore: now.Add(-early), NotAfter: now.Add(life),
		URIs:     []*url.URL{{Scheme: "flotilla", Host: clusterID, Path: caPath}},
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         []string{transport.NodeDNSName(clusterID)}, PermittedURIDomains: []string{clusterID},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign the authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read the authority back: %w", err)
	}
	return &Authority{clusterID: clusterID, cert: cert, key: key}, nil
}

// Load reads an authority from PEM texts.
func Load(certPEM, keyPEM []byte) (*Authority, error) {
	cb, kb := find(certPEM, pemCertificate), find(keyPEM, pemKey)
	if cb == nil || kb == nil {
		return nil, fmt.Errorf("%w: a certificate and a key in PEM form are wanted", ErrDamaged)
	}
	cert, err := x509.ParseCertificate(cb)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(kb)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	key, ok := parsed.(crypto.Signer)
	if !ok || !samePublic(key.Public(), cert.PublicKey) {
		return nil, fmt.Errorf("%w: the key is not that of the certificate", ErrDamaged)
	}
	cluster := clusterOf(cert)
	if cluster == "" || !cert.IsCA {
		return nil, fmt.Errorf("%w: the certificate names no cluster (subject %q)", ErrDamaged, cert.Subject)
	}
	return &Authority{clusterID: cluster, cert: cert, key: key}, nil
}

// ClusterID is the cluster whose nodes it signs for.
func (a *Authority) ClusterID() string { return a.clusterID }

// NotAfter is when the authority ends, and with it all that it has signed.
func (a *Authority) NotAfter() time.Time { return a.cert.NotAfter }

// Fingerprint identifies the authority: the SHA-256 of its certificate.
func (a *Authority) Fingerprint() [sha256.Size]byte { return sha256.Sum256(a.cert.Raw) }

// CertPEM is its certificate, which every node gets.
func (a *Authority) CertPEM() []byte { return encode(pemCertificate, a.cert.Raw) }

// KeyPEM is its private key.
func (a *Authority) KeyPEM() ([]byte, error) { return keyPEM(a.key) }

// clusterOf is the cluster that an authority's certificate names.
func clusterOf(cert *x509.Certificate) string {
	for _, u := range cert.URIs {
		if u.Scheme == "flotilla" && u.Path == caPath {
			return u.Host
		}
	}
	return ""
}

func newKey() (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return key, nil
}

func keyPEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the key: %w", err)
	}
	return encode(pemKey, der), nil
}

func samePublic(a crypto.PublicKey, b any) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// serial is 120 random bits, which no other certificate has.
func serial() *big.Int {
	var b [15]byte
	_, _ = rand.Read(b[:]) // never fails
	b[0] &= 0x7F
	b[0] |= 0x40
	return new(big.Int).SetBytes(b[:])
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// find returns the first block of a kind, nil if there is none.
func find(text []byte, kind string) []byte {
	for len(text) > 0 {
		b, rest := pem.Decode(text)
		if b == nil {
			return nil
		}
		if b.Type == kind {
			return b.Bytes
		}
		text = rest
	}
	return nil
}

// validCluster: a cluster id is a DNS label, because it stands in a DNS name.
func validCluster(id string) bool {
	if id == "" || len(id) > 63 || id[0] == '-' || id[len(id)-1] == '-' {
		return false
	}
	return only(id, "-")
}

// ValidNode says why an id cannot be in a certificate and be the name of a folder.
func ValidNode(id string) error {
	if id == "" || len(id) > 128 || id[0] == '.' || id[0] == '-' || !only(id, "-_.") {
		return fmt.Errorf("%w: node id %q: 1 to 128 letters, digits, and - _ . behind the first", ErrInvalid, id)
	}
	return nil
}

// only tells whether s has nothing but letters, digits and the characters of more.
func only(s, more string) bool {
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		default:
			if !strings.ContainsRune(more, r) {
				return false
			}
		}
	}
	return true
}

var errWeakKey = errors.New("key too weak: RSA needs 2048 bits, ECDSA P-256 or more")
