package transport

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// ClusterFiles is the mutual TLS of a cluster port, from files in PEM form. They
// are read again when they change: new connections get the new certificate,
// connections that exist go on. While a new set of files is broken, or is that
// of another node, the old one stays.
type ClusterFiles struct {
	// CA signs the certificates of the nodes, and of nobody else. Several may
	// stand in it, while one is replaced by the next.
	CA string
	// Cert and Key are this node's certificate and its key.
	Cert, Key string
	// Interval is how often the files are looked at. Default 10 s.
	Interval time.Duration
}

// Proof is what the certificate of a node proves.
type Proof struct {
	ClusterID, NodeID string
}

// Read reads the files and returns what they prove. The chain is verified; that
// the certificate is valid now is not asked: a clock may be wrong at the start.
func (f ClusterFiles) Read() (Proof, error) {
	files := &clusterFiles{ClusterFiles: f}
	texts, err := readFiles(files)
	if err != nil {
		return Proof{}, err
	}
	if _, err := files.parse(texts); err != nil {
		return Proof{}, err
	}
	return files.proof, nil
}

// clusterFiles remembers whose certificate was there first.
type clusterFiles struct {
	ClusterFiles
	proof Proof
}

var _ pemFiles = (*clusterFiles)(nil)

func (f *clusterFiles) paths() []string      { return []string{f.Cert, f.Key, f.CA} }
func (f *clusterFiles) every() time.Duration { return orDefault(f.Interval, lookEvery) }
func (f *clusterFiles) name() string         { return f.Cert }

func (f *clusterFiles) parse(texts [][]byte) (*tlsSet, error) {
	cert, first, err := keyPair(f.Cert, f.Key, texts[0], texts[1])
	if err != nil {
		return nil, err
	}
	pool, err := caPool(f.CA, texts[2])
	if err != nil {
		return nil, err
	}
	proof, err := f.prove(cert, pool)
	if err != nil {
		return nil, err
	}
	f.proof = proof
	conf := &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool, RootCAs: pool}
	return &tlsSet{server: serverTLS(conf), client: conf, first: first}, nil
}

// prove finds out whose certificate it is, and whether others will see it so.
func (f *clusterFiles) prove(cert tls.Certificate, pool *x509.CertPool) (Proof, error) {
	bad := func(err error) (Proof, error) { return Proof{}, fmt.Errorf("%w: %s: %w", ErrTLSFiles, f.Cert, err) }
	cluster, node, err := CertificateIdentity(cert.Leaf)
	if err != nil {
		return bad(err)
	}
	p := Proof{ClusterID: cluster, NodeID: node}
	if f.proof != (Proof{}) && f.proof != p {
		return bad(fmt.Errorf("it is that of node %q of cluster %q, this is node %q of cluster %q", node, cluster, f.proof.NodeID, f.proof.ClusterID))
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		o := x509.VerifyOptions{
			Roots: pool, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{usage},
			CurrentTime: cert.Leaf.NotBefore.Add(time.Second),
		}
		for _, der := range cert.Certificate[1:] {
			if c, err := x509.ParseCertificate(der); err == nil {
				o.Intermediates.AddCert(c)
			}
		}
		if _, err := cert.Leaf.Verify(o); err != nil {
			return bad(fmt.Errorf("not signed by %s for nodes: %w", f.CA, err))
		}
	}
	return p, nil
}

// clusterTLS is where the TLS of a cluster port comes from: files that may
// change, or a configuration that does not.
type clusterTLS struct {
	files *certificates
	fixed *tlsSet
	// cluster is what this node's own certificate says, "" if it cannot be told.
	// It counts while the node is in no cluster yet.
	cluster string
}

// openTLS returns nil where the port is plain TCP.
func (c *ClusterConfig) openTLS() (*clusterTLS, error) {
	switch {
	case c.TLSFiles != nil:
		files := &clusterFiles{ClusterFiles: *c.TLSFiles}
		certs, err := openCertificates(files, c.Registerer, "cluster", c.Logger.Named("transport"))
		if err != nil {
			return nil, err
		}
		return &clusterTLS{files: certs, cluster: files.proof.ClusterID}, nil
	case c.TLS != nil:
		return &clusterTLS{fixed: &tlsSet{server: serverTLS(c.TLS), client: c.TLS}, cluster: clusterOf(c.TLS)}, nil
	}
	return nil, nil
}

// current is the TLS for a new connection.
func (c *clusterTLS) current() *tlsSet {
	if c.files != nil {
		return c.files.current()
	}
	return c.fixed
}

// expect is the cluster that a certificate must name: ours, or before there is
// one that of our own certificate.
func (c *clusterTLS) expect(ours string) string {
	if ours == "" {
		return c.cluster
	}
	return ours
}

// clusterOf is the cluster that the first certificate of a configuration names.
func clusterOf(c *tls.Config) string {
	i := slices.IndexFunc(c.Certificates, func(cert tls.Certificate) bool { return len(cert.Certificate) > 0 })
	if i < 0 {
		return ""
	}
	leaf, err := x509.ParseCertificate(c.Certificates[i].Certificate[0])
	if err != nil {
		return ""
	}
	cluster, _, _ := CertificateIdentity(leaf) // "" if it is no node's: VerifyCertificate is the owner's then
	return cluster
}

// ReloadTLS reads the files of ClusterConfig.TLSFiles now, rather than when
// their next look is due. An error means that the old ones stay.
func (p *ClusterPort) ReloadTLS() error {
	if p.tls == nil || p.tls.files == nil {
		return nil
	}
	return p.tls.files.reload()
}
