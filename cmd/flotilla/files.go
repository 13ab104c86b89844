package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/config"
	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/session/auth"
)

// users are the files that say who a client is. They can be read again.
type users struct{ files []*auth.File }

// openUsers opens the chain of auth. Without one it is nil: everybody is let in.
func openUsers(c *config.Config) (*users, *auth.Chain, error) {
	if len(c.Auth.Chain) == 0 {
		return &users{}, nil, nil
	}
	u, chain := &users{}, &auth.Chain{AllowAnonymous: c.Auth.AllowAnonymous}
	for i, b := range c.Auth.Chain {
		f, err := auth.Open(b.Path)
		if err != nil {
			return nil, nil, failf(exitUsage, "auth.chain[%d]: %w", i, err)
		}
		u.files = append(u.files, f)
		chain.Backends = append(chain.Backends, f)
	}
	return u, chain, nil
}

// reload reads all files again. A file with an error keeps its users.
func (u *users) reload() error {
	var errs []error
	for _, f := range u.files {
		errs = append(errs, f.Reload())
	}
	return errors.Join(errs...)
}

// authenticate puts the chain into a session configuration.
func authenticate(s *session.Config, chain *auth.Chain) {
	if chain != nil {
		s.Authenticator, s.EnhancedAuth = chain, chain
	}
}

// checkFiles opens every file that a configuration names, so that a mistake is
// found before the node is restarted. The errors name key and source.
func checkFiles(r *config.Result) error {
	var errs []error
	check := func(key string, err error) {
		if err == nil {
			return
		}
		source := r.Source(key)
		errs = append(errs, fmt.Errorf("%w: %s (%s): %w", config.ErrInvalid, key, source, err))
	}
	c := &r.Config
	checkTLS(check, "tls", &c.TLS)
	for i := range c.Listeners {
		checkTLS(check, fmt.Sprintf("listeners[%d].tls", i), &c.Listeners[i].TLS.TLS)
	}
	if f := clusterFiles(c.Cluster.TLS); f != nil {
		_, err := f.Read()
		check("cluster.tls", err)
	}
	if t := &c.Admin.TLS; t.Set() {
		check("admin.tls.cert", checkPair(t.Cert, t.Key))
		if t.ClientCA != "" {
			check("admin.tls.client_ca", checkCA(t.ClientCA))
		}
	}
	if _, err := openBootstrap(c.Admin.BootstrapKeyFile); err != nil {
		errs = append(errs, err)
	}
	for i, b := range c.Auth.Chain {
		_, err := auth.Open(b.Path)
		check(fmt.Sprintf("auth.chain[%d].path", i), err)
	}
	if _, err := joinToken(c); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func checkTLS(check func(string, error), key string, t *config.TLS) {
	if t.Set() {
		check(key+".cert", checkPair(t.Cert, t.Key))
	}
	if t.ClientCA != "" {
		check(key+".client_ca", checkCA(t.ClientCA))
	}
}

func checkPair(cert, key string) error {
	_, err := tls.LoadX509KeyPair(cert, key)
	return err
}

func checkCA(file string) error {
	pem, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s has no certificate", file)
	}
	return nil
}
