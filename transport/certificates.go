package transport

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

const (
	// maxPEM bounds a file of certificates.
	maxPEM = 1 << 20
	// expiringBefore is how long before its end a certificate is worth a line
	// in the log, every expiringAgain.
	expiringBefore = 14 * 24 * time.Hour
	expiringAgain  = 24 * time.Hour
	// lookEvery is how often certificate files are looked at.
	lookEvery = 10 * time.Second
)

// pemFiles are the certificate files of a port, and what they mean there.
type pemFiles interface {
	paths() []string // "" where there is none
	every() time.Duration
	// parse takes the contents in the order of paths. Whether a certificate is
	// valid at this time is not its business.
	parse(texts [][]byte) (*tlsSet, error)
	// name is the file to name where the time of a certificate is wrong.
	name() string
}

// tlsSet is the TLS that one set of files makes.
type tlsSet struct {
	server *tls.Config
	client *tls.Config       // how a cluster port dials; nil on a client port
	first  *x509.Certificate // of the chain, the one that ends first
}

// certificates is what certificate files say, as of the last good look at them.
type certificates struct {
	files   pemFiles
	lg      *zap.Logger
	metrics *tlsMetrics
	set     atomic.Pointer[tlsSet]

	mu     sync.Mutex // one look at a time; the rest is under it
	sum    [sha256.Size]byte
	badSum [sha256.Size]byte // of the files that were refused last
	warned time.Time
}

// openCertificates reads the files of the port with this name for the first time.
func openCertificates(files pemFiles, reg prometheus.Registerer, port string, lg *zap.Logger) (*certificates, error) {
	c := &certificates{files: files, lg: lg}
	texts, err := readFiles(files)
	if err != nil {
		return nil, err
	}
	set, err := files.parse(texts)
	if err != nil {
		return nil, err
	}
	c.metrics = newTLSMetrics(reg, port)
	c.take(set, sumOf(texts))
	c.remind()
	return c, nil
}

// current is the TLS for a new connection. Each set of files has a
// configuration, and so session ticket keys, of its own: a client resumes no
// session that a former client CA let in.
func (c *certificates) current() *tlsSet { return c.set.Load() }

// watch looks at the files until done is closed.
func (c *certificates) watch(done <-chan struct{}) {
	tick := time.NewTicker(c.files.every())
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = c.reload() // logged and counted
		case <-done:
			return
		}
	}
}

// reload takes the files over if they changed and are in order.
func (c *certificates) reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	texts, err := readFiles(c.files)
	if err != nil {
		c.refuse(sha256.Sum256([]byte(err.Error())), err)
		return err
	}
	sum := sumOf(texts)
	if sum == c.sum {
		c.badSum = [sha256.Size]byte{} // an attempt that was taken back
		c.remind()
		return nil
	}
	set, err := c.files.parse(texts)
	if now := time.Now(); err == nil && (now.After(set.first.NotAfter) || now.Before(set.first.NotBefore)) {
		err = fmt.Errorf("%w: %s is valid from %s to %s only", ErrTLSFiles, c.files.name(), set.first.NotBefore, set.first.NotAfter)
	}
	if err != nil {
		c.refuse(sum, err)
		return err
	}
	c.take(set, sum)
	c.metrics.reloads.WithLabelValues("ok").Inc()
	c.lg.Info("certificate files were reloaded", zap.String("event", "tls.reloaded"), zap.Time("not_after", set.first.NotAfter),
		zap.Stringer("serial", set.first.SerialNumber))
	c.remind()
	return nil
}

func (c *certificates) take(set *tlsSet, sum [sha256.Size]byte) {
	c.sum, c.badSum, c.warned = sum, [sha256.Size]byte{}, time.Time{}
	c.set.Store(set)
	c.metrics.notAfter.Set(float64(set.first.NotAfter.Unix()))
}

// refuse reports files that are not taken over, once as long as they stay so.
func (c *certificates) refuse(sum [sha256.Size]byte, err error) {
	if sum != c.badSum {
		c.badSum = sum
		c.metrics.reloads.WithLabelValues("failed").Inc()
		c.lg.Error("certificate files are not in order, the old ones stay", zap.String("event", "tls.reload_failed"), zap.Error(err))
	}
	c.remind()
}

// remind says that the certificate ends soon, or is not valid at all.
func (c *certificates) remind() {
	now, first := time.Now(), c.set.Load().first
	if first.NotAfter.Sub(now) > expiringBefore && !now.Before(first.NotBefore) || now.Sub(c.warned) < expiringAgain {
		return
	}
	c.warned = now
	fields := []zap.Field{zap.String("event", "tls.expiring"), zap.String("file", c.files.name()), zap.Time("not_after", first.NotAfter)}
	switch {
	case now.Before(first.NotBefore):
		c.lg.Error("certificate is not valid yet: is the clock of this machine right?", append(fields, zap.Time("not_before", first.NotBefore))...)
	case now.After(first.NotAfter):
		c.lg.Error("certificate has ended: new connections fail", fields...)
	default:
		c.lg.Warn("certificate ends soon", fields...)
	}
}

func readFiles(files pemFiles) ([][]byte, error) {
	texts := make([][]byte, len(files.paths()))
	for i, path := range files.paths() {
		if path == "" {
			continue
		}
		b, err := readPEM(path)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrTLSFiles, err)
		}
		texts[i] = b
	}
	return texts, nil
}

func readPEM(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err == nil && len(b) > maxPEM {
		err = fmt.Errorf("%s has more than %d bytes", path, maxPEM)
	}
	return b, err
}

func sumOf(texts [][]byte) [sha256.Size]byte { return sha256.Sum256(bytes.Join(texts, []byte{0})) }

// keyPair parses a chain with its key, and finds the certificate of the chain
// that ends first.
func keyPair(certPath, keyPath string, cert, key []byte) (tls.Certificate, *x509.Certificate, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return pair, nil, fmt.Errorf("%w: %s and %s: %w", ErrTLSFiles, certPath, keyPath, err)
	}
	first := pair.Leaf
	for _, der := range pair.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return pair, nil, fmt.Errorf("%w: %s: %w", ErrTLSFiles, certPath, err)
		}
		if c.NotAfter.Before(first.NotAfter) {
			first = c
		}
	}
	return pair, first, nil
}

// caPool parses a file of CA certificates.
func caPool(path string, text []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%w: %s: %w", ErrTLSFiles, path, errors.New("no certificate in it"))
	}
	return pool, nil
}

var _ pemFiles = (*TLSFiles)(nil)

func (f *TLSFiles) paths() []string      { return []string{f.Cert, f.Key, f.ClientCA} }
func (f *TLSFiles) every() time.Duration { return f.Interval }
func (f *TLSFiles) name() string         { return f.Cert }

func (f *TLSFiles) parse(texts [][]byte) (*tlsSet, error) {
	cert, first, err := keyPair(f.Cert, f.Key, texts[0], texts[1])
	if err != nil {
		return nil, err
	}
	conf := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: f.MinVersion, NextProtos: f.ALPN}
	if !slices.Contains(conf.NextProtos, alpnHTTP) {
		conf.NextProtos = append(slices.Clone(conf.NextProtos), alpnHTTP)
	}
	set := &tlsSet{server: conf, first: first}
	if f.ClientAuth == ClientAuthNone {
		return set, nil
	}
	conf.ClientAuth = tls.VerifyClientCertIfGiven
	if f.ClientAuth == ClientAuthRequire {
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	conf.ClientCAs, err = caPool(f.ClientCA, texts[2])
	return set, err
}
