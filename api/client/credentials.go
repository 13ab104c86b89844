package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

// ErrCredentials means that what should say who calls cannot be read.
var ErrCredentials = errors.New("credentials")

// Credentials say who calls, and whom to trust. All of it is optional.
type Credentials struct {
	// TokenFile holds an API key; Token is the key itself, and goes before.
	TokenFile, Token string
	// CACert is a file with the certificates that sign those of the nodes. Empty:
	// those of the system.
	CACert string
	// Cert and Key are files of a client certificate.
	Cert, Key string
}

// read takes the key from its file.
func (c *Credentials) read() error {
	if c.Token != "" || c.TokenFile == "" {
		return nil
	}
	b, err := os.ReadFile(c.TokenFile)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCredentials, err)
	}
	c.Token = strings.TrimSpace(string(b))
	if c.Token == "" || strings.ContainsAny(c.Token, " \r\n\t") {
		return fmt.Errorf("%w: %s does not hold one API key", ErrCredentials, c.TokenFile)
	}
	return nil
}

// tls is what the connections use, nil for Go's own.
func (c *Credentials) tls() (*tls.Config, error) {
	if c.CACert == "" && c.Cert == "" && c.Key == "" {
		return nil, nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CACert != "" {
		pem, err := os.ReadFile(c.CACert)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCredentials, err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: %s has no certificate", ErrCredentials, c.CACert)
		}
	}
	if (c.Cert == "") != (c.Key == "") {
		return nil, fmt.Errorf("%w: a client certificate and its key belong together: one of them is missing", ErrCredentials)
	}
	if c.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCredentials, err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}

// curl are the options of curl that do the same.
func (c *Credentials) curl() string {
	var s string
	for _, o := range []struct{ name, file string }{{"cacert", c.CACert}, {"cert", c.Cert}, {"key", c.Key}} {
		if o.file != "" {
			s += " --" + o.name + " " + quote(o.file)
		}
	}
	switch {
	case c.TokenFile != "":
		s += ` -H "Authorization: Bearer $(cat ` + quote(c.TokenFile) + `)"`
	case c.Token != "":
		s += ` -H "Authorization: Bearer $TOKEN"`
	}
	return s
}

// newRequest is a request of this caller.
func (c *Client) newRequest(ctx context.Context, method, target string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	if c.opt.Credentials.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.opt.Credentials.Token)
	}
	return req, nil
}

// noRedirect: a node does not send callers elsewhere, and a key is for whom it
// was given to.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
