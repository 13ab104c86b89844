package transport

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"
)

// A node certificate carries two subject alternative names:
//
//	DNS:node.<cluster-id>.flotilla
//	URI:flotilla://<cluster-id>/node/<node-id>
//
// The first says that the bearer is a node of this cluster, and not one of its
// clients; the second which one. It needs both extended key usages, server and
// client, because nodes dial each other.
const (
	certScheme     = "flotilla"
	certNodePrefix = "/node/"
	certDNSPrefix  = "node."
	certDNSSuffix  = ".flotilla"
)

// NodeDNSName returns the DNS name in the certificates of a cluster's nodes.
func NodeDNSName(clusterID string) string { return certDNSPrefix + clusterID + certDNSSuffix }

// NodeURI returns the URI in the certificate of a node.
func NodeURI(clusterID, nodeID string) *url.URL {
	return &url.URL{Scheme: certScheme, Host: clusterID, Path: certNodePrefix + nodeID}
}

// CertificateIdentity returns which node of which cluster a certificate names.
// It does not verify the certificate.
func CertificateIdentity(cert *x509.Certificate) (clusterID, nodeID string, err error) {
	for _, u := range cert.URIs {
		if u.Scheme != certScheme || !strings.HasPrefix(u.Path, certNodePrefix) {
			continue
		}
		if nodeID != "" {
			return "", "", fmt.Errorf("%w: it names several nodes", ErrCertificate)
		}
		clusterID, nodeID = u.Host, strings.TrimPrefix(u.Path, certNodePrefix)
		if clusterID == "" || nodeID == "" {
			return "", "", fmt.Errorf("%w: URI %q", ErrCertificate, u)
		}
	}
	if nodeID == "" {
		return "", "", fmt.Errorf("%w: it is no node's (subject %q)", ErrCertificate, cert.Subject)
	}
	for _, name := range cert.DNSNames {
		if strings.EqualFold(name, NodeDNSName(clusterID)) {
			return clusterID, nodeID, nil
		}
	}
	return "", "", fmt.Errorf("%w: DNS name %q is missing", ErrCertificate, NodeDNSName(clusterID))
}

// VerifyNodeCertificate checks that the peer's certificate, whose chain was
// verified before, is that of node nodeID of cluster clusterID. With an empty
// clusterID (this node is in no cluster yet) any cluster's node of that id is
// right. It is the default of ClusterConfig.VerifyCertificate.
func VerifyNodeCertificate(state tls.ConnectionState, clusterID, nodeID string) error {
	if len(state.PeerCertificates) == 0 {
		return fmt.Errorf("%w: there is none", ErrCertificate)
	}
	c, n, err := CertificateIdentity(state.PeerCertificates[0])
	switch {
	case err != nil:
		return err
	case clusterID != "" && c != clusterID:
		return fmt.Errorf("%w: it is of cluster %q", ErrCertificate, c)
	case n != nodeID:
		return fmt.Errorf("%w: it is of node %q, not %q", ErrCertificate, n, nodeID)
	}
	return nil
}

// checkTLS refuses a configuration that would let strangers in.
func checkTLS(c *tls.Config) error {
	switch {
	case len(c.Certificates) == 0 && (c.GetCertificate == nil || c.GetClientCertificate == nil):
		return fmt.Errorf("%w: cluster TLS without a node certificate", ErrConfig)
	case c.ClientCAs == nil || c.RootCAs == nil:
		return fmt.Errorf("%w: cluster TLS needs ClientCAs and RootCAs, a CA for nodes only", ErrConfig)
	case c.GetConfigForClient != nil:
		return fmt.Errorf("%w: cluster TLS with GetConfigForClient; use GetCertificate to rotate", ErrConfig)
	}
	return nil
}

// serverTLS returns c as the accepting side needs it: mutual TLS 1.3.
func serverTLS(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.MinVersion = tls.VersionTLS13
	c.ClientAuth = tls.RequireAndVerifyClientCert
	c.SessionTicketsDisabled = true // every connection proves itself by what holds now
	return c
}

// clientTLS returns c as the dialling side needs it. Go's own check wants a
// host name; node certificates have none, so the chain is verified here and
// the identity by VerifyCertificate.
func clientTLS(c *tls.Config, clusterID string) *tls.Config {
	c = c.Clone()
	c.MinVersion = tls.VersionTLS13
	if clusterID != "" {
		c.ServerName = NodeDNSName(clusterID)
	}
	roots, more := c.RootCAs, c.VerifyConnection
	c.InsecureSkipVerify = true
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if err := verifyChain(s, roots); err != nil {
			return err
		}
		if more != nil {
			return more(s)
		}
		return nil
	}
	return c
}

func verifyChain(s tls.ConnectionState, roots *x509.CertPool) error {
	if len(s.PeerCertificates) == 0 {
		return fmt.Errorf("%w: there is none", ErrCertificate)
	}
	o := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, c := range s.PeerCertificates[1:] {
		o.Intermediates.AddCert(c)
	}
	if _, err := s.PeerCertificates[0].Verify(o); err != nil {
		return fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	return nil
}
