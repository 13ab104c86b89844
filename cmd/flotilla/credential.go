package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/urfave/cli/v2"
	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/api"
	"github.com/flotilla-mqtt/flotilla/api/client"
	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/config"
	"github.com/flotilla-mqtt/flotilla/transport"
)

// credentialFlags say who calls the API, and whom to trust.
func credentialFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "token-file", EnvVars: []string{"FLOTILLA_TOKEN_FILE"}, Usage: "`FILE` with an API key"},
		&cli.StringFlag{Name: "cacert", EnvVars: []string{"FLOTILLA_CACERT"}, Usage: "`FILE` with the certificates that sign those of the nodes, PEM"},
		&cli.StringFlag{Name: "cert", EnvVars: []string{"FLOTILLA_CERT"}, Usage: "`FILE` with a client certificate, PEM"},
		&cli.StringFlag{Name: "key", EnvVars: []string{"FLOTILLA_KEY"}, Usage: "`FILE` with its private key, PEM"},
	}
}

func credentials(c *cli.Context) client.Credentials {
	return client.Credentials{TokenFile: c.String("token-file"), CACert: c.String("cacert"), Cert: c.String("cert"), Key: c.String("key")}
}

// bootstrapHash is how the file of a bootstrap key may name the key instead of
// holding it.
const bootstrapHash = "sha256:"

// bootstrapKey is the key of admin.bootstrap_key_file. It can be read again.
type bootstrapKey struct {
	path string
	hash atomic.Pointer[[]byte]
}

func openBootstrap(path string) (*bootstrapKey, error) {
	b := &bootstrapKey{path: path}
	return b, b.reload()
}

// reload reads the file again. On a mistake the old key stays.
func (b *bootstrapKey) reload() error {
	if b.path == "" {
		return nil
	}
	text, err := os.ReadFile(b.path)
	if err != nil {
		return failf(exitUsage, "admin.bootstrap_key_file: %w", err)
	}
	hash, err := keyHash(strings.TrimSpace(string(text)))
	if err != nil {
		return failf(exitUsage, "admin.bootstrap_key_file: %s %w", b.path, err)
	}
	b.hash.Store(&hash)
	return nil
}

func (b *bootstrapKey) get() []byte {
	if h := b.hash.Load(); h != nil {
		return *h
	}
	return nil
}

// errNoKey says what a file should hold.
var errNoKey = errors.New("holds no API key: make one with flotilla apikey generate")

// keyHash is the SHA-256 of a key, or the one that a text names.
func keyHash(text string) ([]byte, error) {
	if h, ok := strings.CutPrefix(text, bootstrapHash); ok {
		sum, err := hex.DecodeString(h)
		if err != nil || len(sum) != sha256.Size {
			return nil, fmt.Errorf("holds no hash: make one with flotilla apikey hash")
		}
		return sum, nil
	}
	if client.KeyID(text) == "" {
		return nil, errNoKey
	}
	sum := sha256.Sum256([]byte(text))
	return sum[:], nil
}

// adminAccess turns the configuration into who may use the API.
func adminAccess(c *config.Config, bootstrap *bootstrapKey) api.Access {
	return api.Access{
		APIKeys: slices.Contains(c.Admin.Auth, "api_key"), Certificates: slices.Contains(c.Admin.Auth, "mtls"),
		AllowAnonymous: c.AllowAnonymous || c.Admin.AllowAnonymous, OpenMetrics: !c.Admin.MetricsAuth, Bootstrap: bootstrap.get,
	}
}

// adminPort is what the admin listener needs beside its socket.
type adminPort struct {
	access    api.Access
	bootstrap *bootstrapKey
	tls       *transport.ServerTLS // nil without
}

func openAdminPort(c *config.Config, reg prometheus.Registerer, lg *zap.Logger) (*adminPort, error) {
	b, err := openBootstrap(c.Admin.BootstrapKeyFile)
	if err != nil {
		return nil, err
	}
	p := &adminPort{access: adminAccess(c, b), bootstrap: b}
	if c.AdminInTheClear() {
		lg.Warn("API keys cross the network in the clear: configure admin.tls, or put something in front that does", zap.String("event", "config.warning"))
	}
	t := &c.Admin.TLS
	if !t.Set() || !c.AdminAddr.On() {
		return p, nil
	}
	files := transport.TLSFiles{Cert: t.Cert, Key: t.Key, ClientCA: t.ClientCA, MinVersion: tls.VersionTLS12}
	if t.MinVersion == "1.3" {
		files.MinVersion = tls.VersionTLS13
	}
	if t.ClientCA != "" {
		files.ClientAuth = transport.ClientAuthRequest // probes have none; the gate asks the others
	}
	if p.tls, err = transport.OpenServerTLS(files, "admin", reg, lg); err != nil {
		return nil, failf(exitUsage, "admin.tls: %w", err)
	}
	return p, nil
}

// wrap puts the listener inside TLS, if that is configured.
func (p *adminPort) wrap(l net.Listener) net.Listener {
	if p.tls == nil {
		return l
	}
	return p.tls.Listener(l)
}

// reload reads the files again.
func (p *adminPort) reload() error {
	if p == nil {
		return nil // no admin port
	}
	err := p.bootstrap.reload()
	if p.tls != nil {
		err = errors.Join(err, p.tls.Reload())
	}
	return err
}

func (p *adminPort) close() {
	if p != nil && p.tls != nil {
		p.tls.Close()
	}
}

// readKey reads a key from a file, or from stdin.
func (a *app) readKey(file string) (string, error) {
	if file != "" && file != "-" {
		b, err := os.ReadFile(file)
		if err != nil {
			return "", failf(exitUsage, "%w", err)
		}
		return string(bytes.TrimSpace(b)), nil
	}
	line, err := bufio.NewReader(a.in).ReadString('\n')
	if line == "" && err != nil {
		return "", usagef("no key: name a FILE, or give it as a line of stdin")
	}
	return strings.TrimSpace(line), nil
}
