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

	"go.uber.org/zap"
)

const (
	// maxPEM bounds a file of certificates.
	maxPEM = 1 << 20
	// expiringBefore is how long before its end a certificate is worth a line
	// in the log, every expiringAgain.
	expiringBefore = 14 * 24 * time.Hour
	expiringAgain  = 24 * time.Hour
)

// certificates is what TLSFiles say, as of the last good look at them.
type certificates struct {
	files   TLSFiles
	lg      *zap.Logger
	metrics *tlsMetrics
	config  atomic.Pointer[tls.Config]

	mu       sync.Mutex // one look at a time; the rest is under it
	sum      [sha256.Size]byte
	badSum   [sha256.Size]byte // of the files that were refused last
	notAfter time.Time
	warned   time.Time
}

// openCertificates reads the files for the first time. It returns nil if cfg
// has none.
func openCertificates(cfg ClientConfig, lg *zap.Logger) (*certificates, error) {
	if cfg.TLSFiles == nil {
		return nil, nil
	}
	c := &certificates{files: *cfg.TLSFiles, lg: lg}
	text, err := c.files.read()
	if err != nil {
		return nil, err
	}
	conf, leaf, err := text.parse(&c.files)
	if err != nil {
		return nil, err
	}
	c.metrics = newTLSMetrics(cfg.Registerer, cfg.Name)
	c.take(conf, leaf, text.sum())
	c.remind()
	return c, nil
}

// current is the configuration for a new connection. Each set of files has a
// configuration, and so session ticket keys, of its own: a client resumes no
// session that a former client CA let in.
func (c *certificates) current() *tls.Config { return c.config.Load() }

// watch looks at the files until done is closed.
func (c *certificates) watch(done <-chan struct{}) {
	tick := time.NewTicker(c.files.Interval)
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
	text, err := c.files.read()
	if err != nil {
		c.refuse(sha256.Sum256([]byte(err.Error())), err)
		return err
	}
	sum := text.sum()
	if sum == c.sum {
		c.badSum = [sha256.Size]byte{} // an attempt that was taken back
		c.remind()
		return nil
	}
	conf, leaf, err := text.parse(&c.files)
	if now := time.Now(); err == nil && (now.After(leaf.NotAfter) || now.Before(leaf.NotBefore)) {
		err = fmt.Errorf("%w: %s is valid from %s to %s only", ErrTLSFiles, c.files.Cert, leaf.NotBefore, leaf.NotAfter)
	}
	if err != nil {
		c.refuse(sum, err)
		return err
	}
	c.take(conf, leaf, sum)
	c.metrics.reloads.WithLabelValues("ok").Inc()
	c.lg.Info("certificate files were reloaded", zap.String("event", "tls.reloaded"), zap.Time("not_after", leaf.NotAfter),
		zap.Stringer("serial", leaf.SerialNumber))
	c.remind()
	return nil
}

func (c *certificates) take(conf *tls.Config, leaf *x509.Certificate, sum [sha256.Size]byte) {
	c.sum, c.badSum, c.notAfter, c.warned = sum, [sha256.Size]byte{}, leaf.NotAfter, time.Time{}
	c.config.Store(conf)
	c.metrics.notAfter.Set(float64(leaf.NotAfter.Unix()))
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

// remind says that the certificate ends soon.
func (c *certificates) remind() {
	now := time.Now()
	if c.notAfter.Sub(now) > expiringBefore || now.Sub(c.warned) < expiringAgain {
		return
	}
	c.warned = now
	c.lg.Warn("certificate ends soon", zap.String("event", "tls.expiring"), zap.Time("not_after", c.notAfter))
}

// tlsText is the content of the files.
type tlsText struct{ cert, key, ca []byte }

func (f *TLSFiles) read() (tlsText, error) {
	var t tlsText
	for _, x := range []struct {
		path string
		to   *[]byte
	}{{f.Cert, &t.cert}, {f.Key, &t.key}, {f.ClientCA, &t.ca}} {
		if x.path == "" {
			continue
		}
		b, err := readPEM(x.path)
		if err != nil {
			return t, fmt.Errorf("%w: %w", ErrTLSFiles, err)
		}
		*x.to = b
	}
	return t, nil
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

func (t tlsText) sum() [sha256.Size]byte {
	return sha256.Sum256(bytes.Join([][]byte{t.cert, t.key, t.ca}, []byte{0}))
}

// parse returns the configuration, and the certificate of the chain that ends
// first.
func (t tlsText) parse(f *TLSFiles) (*tls.Config, *x509.Certificate, error) {
	cert, err := tls.X509KeyPair(t.cert, t.key)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %s and %s: %w", ErrTLSFiles, f.Cert, f.Key, err)
	}
	first := cert.Leaf
	for _, der := range cert.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %s: %w", ErrTLSFiles, f.Cert, err)
		}
		if c.NotAfter.Before(first.NotAfter) {
			first = c
		}
	}
	conf := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: f.MinVersion, NextProtos: f.ALPN}
	if !slices.Contains(conf.NextProtos, alpnHTTP) {
		conf.NextProtos = append(slices.Clone(conf.NextProtos), alpnHTTP)
	}
	if f.ClientAuth == ClientAuthNone {
		return conf, first, nil
	}
	conf.ClientAuth = tls.VerifyClientCertIfGiven
	if f.ClientAuth == ClientAuthRequire {
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	conf.ClientCAs = x509.NewCertPool()
	if !conf.ClientCAs.AppendCertsFromPEM(t.ca) {
		return nil, nil, fmt.Errorf("%w: %s: %w", ErrTLSFiles, f.ClientCA, errors.New("no certificate in it"))
	}
	return conf, first, nil
}
