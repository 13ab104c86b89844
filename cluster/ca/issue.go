package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/url"
	"time"

	"github.com/flotilla-mqtt/flotilla/transport"
)

// maxRequest bounds a signing request in PEM form.
const maxRequest = 64 << 10

// Issued is a node's certificate, with its key if that was made here.
type Issued struct {
	// Cert and Key are in PEM form.
	Cert, Key []byte
	NotAfter  time.Time
}

// Issue makes a key and signs its certificate for a node.
func (a *Authority) Issue(nodeID string, life time.Duration) (Issued, error) {
	key, err := newKey()
	if err != nil {
		return Issued{}, err
	}
	out, err := a.sign(nodeID, key.Public(), life)
	if err != nil {
		return Issued{}, err
	}
	out.Key, err = keyPEM(key)
	return out, err
}

// Sign signs the key of a signing request in PEM form. The names are those of
// the node that is given here, whatever the request says.
func (a *Authority) Sign(nodeID string, request []byte, life time.Duration) (Issued, error) {
	if len(request) > maxRequest {
		return Issued{}, fmt.Errorf("%w: a signing request of %d bytes", ErrInvalid, len(request))
	}
	der := find(request, pemRequest)
	if der == nil {
		return Issued{}, fmt.Errorf("%w: no signing request in PEM form", ErrInvalid)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return Issued{}, fmt.Errorf("%w: signing request: %w", ErrInvalid, err)
	}
	if err := csr.CheckSignature(); err != nil { // whoever asks must have the key
		return Issued{}, fmt.Errorf("%w: signing request: %w", ErrInvalid, err)
	}
	return a.sign(nodeID, csr.PublicKey, life)
}

// Request makes a key, and the request to sign it.
func Request(nodeID string) (request, key []byte, err error) {
	if err := ValidNode(nodeID); err != nil {
		return nil, nil, err
	}
	k, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: nodeID}}, k)
	if err != nil {
		return nil, nil, fmt.Errorf("make a signing request: %w", err)
	}
	key, err = keyPEM(k)
	return encode(pemRequest, der), key, err
}

func (a *Authority) sign(nodeID string, public crypto.PublicKey, life time.Duration) (Issued, error) {
	if err := ValidNode(nodeID); err != nil {
		return Issued{}, err
	}
	if err := strong(public); err != nil {
		return Issued{}, err
	}
	now := time.Now()
	if life <= 0 || now.After(a.cert.NotAfter) {
		return Issued{}, fmt.Errorf("%w: a certificate for %v of an authority that ends on %s", ErrInvalid, life, a.cert.NotAfter.Format(time.DateOnly))
	}
	end := now.Add(life)
	if end.After(a.cert.NotAfter) {
		end = a.cert.NotAfter
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: nodeID, OrganizationalUnit: []string{"node"}},
		NotBefore: now.Add(-early), NotAfter: end,
		DNSNames: []string{transport.NodeDNSName(a.clusterID)}, URIs: []*url.URL{transport.NodeURI(a.clusterID, nodeID)},
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, public, a.key)
	if err != nil {
		return Issued{}, fmt.Errorf("sign the certificate of node %s: %w", nodeID, err)
	}
	return Issued{Cert: encode(pemCertificate, der), NotAfter: end}, nil
}

// strong refuses keys that can be guessed.
func strong(public crypto.PublicKey) error {
	switch k := public.(type) {
	case ed25519.PublicKey:
		return nil
	case *ecdsa.PublicKey:
		if k.Params().BitSize >= 256 {
			return nil
		}
	case *rsa.PublicKey:
		if k.N.BitLen() >= 2048 {
			return nil
		}
	}
	return fmt.Errorf("%w: %w", ErrInvalid, errWeakKey)
}
