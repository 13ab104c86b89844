package integration

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/integration/harness"
)

// operatorsCA signs certificates of the admin API, as somebody's own authority does.
type operatorsCA struct {
	t    *testing.T
	dir  string
	name string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newOperatorsCA(t *testing.T, dir, name string) *operatorsCA {
	t.Helper()
	a := &operatorsCA{t: t, dir: dir, name: name}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.write(a.file(), "CERTIFICATE", der)
	return a
}

func (a *operatorsCA) file() string { return filepath.Join(a.dir, a.name+".pem") }

func (a *operatorsCA) write(path, kind string, der []byte) {
	a.t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// issue writes a certificate for 127.0.0.1 with its key, and returns their files.
func (a *operatorsCA) issue(name string, serial int64, units ...string) (cert, key string) {
	a.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name, OrganizationalUnit: units},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, k.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, key = filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")
	a.write(key, "PRIVATE KEY", raw)
	a.write(cert, "CERTIFICATE", der)
	return cert, key
}

// TestAdminTLS: the admin API inside TLS, for those with a certificate of the operators' authority, in the role that it
// names; a new certificate is taken over by the process that runs.
func TestAdminTLS(t *testing.T) {
	long(t)
	dir := t.TempDir()
	servers, operators, strangers := newOperatorsCA(t, dir, "servers"), newOperatorsCA(t, dir, "operators"), newOperatorsCA(t, dir, "strangers")
	cert, key := servers.issue("server", 10)
	n := harness.New(t, harness.Options{Nodes: 1}).Nodes[0]
	if err := n.Launch("--set", "admin.tls.cert="+cert, "--set", "admin.tls.key="+key, "--set", "admin.tls.client_ca="+operators.file(), "--set", "admin.auth=[mtls]"); err != nil {
		t.Fatal(err)
	}
	// run calls the command line with the files of a certificate, or without if name is empty.
	run := func(ca *operatorsCA, name string, args ...string) (string, int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		args = append(args, "-e", "https://"+n.AdminAddr())
		if ca != nil {
			args = append(args, "--cacert", ca.file())
		}
		if name != "" {
			args = append(args, "--cert", filepath.Join(dir, name+".pem"), "--key", filepath.Join(dir, name+".key"))
		}
		cmd := exec.CommandContext(ctx, harness.Binary(t), args...)
		var out, errOut bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errOut
		err := cmd.Run()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return errOut.String(), exit.ExitCode()
		}
		if err != nil {
			t.Fatal(err)
		}
		return out.String(), 0
	}
	operators.issue("viewer", 1, "flotilla-viewer")
	operators.issue("admin", 2, "flotilla-admin")
	operators.issue("nobody", 3)
	strangers.issue("stranger", 4, "flotilla-admin")
	harness.Wait(t, time.Minute, "the node to be healthy", func(context.Context) error {
		if out, code := run(servers, "viewer", "cluster", "health"); code != 0 {
			return fmt.Errorf("%d: %s", code, out)
		}
		return nil
	})
	for _, c := range []struct {
		name string
		ca   *operatorsCA
		who  string
		code int
		args []string
	}{
		{"a viewer looks", servers, "viewer", 0, []string{"status"}},
		{"a viewer may not change", servers, "viewer", 3, []string{"cluster", "token", "create"}},
		{"an administrator may", servers, "admin", 0, []string{"cluster", "token", "create"}},
		{"a certificate without a role", servers, "nobody", 3, []string{"status"}},
		{"no certificate", servers, "", 3, []string{"status"}},
		{"a certificate of another authority is not shown", servers, "stranger", 3, []string{"status"}},
		{"the server's authority is another", operators, "viewer", 6, []string{"status"}},
		{"the server's authority is unknown", nil, "viewer", 6, []string{"status"}},
	} {
		if out, code := run(c.ca, c.who, c.args...); code != c.code {
			t.Errorf("%s: exit %d, want %d: %s", c.name, code, c.code, out)
		}
	}
	// Who shows it all the same does not come in.
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "stranger.pem"), filepath.Join(dir, "stranger.key"))
	if err != nil {
		t.Fatal(err)
	}
	pushy := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
		InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, //nolint:gosec // an attacker does not care
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil },
	}}}
	if resp, err := pushy.Get("https://" + n.AdminAddr() + "/livez"); err == nil {
		_ = resp.Body.Close()
		t.Errorf("a certificate of another authority got %s", resp.Status)
	}
	if out, code := runAs(t, n, "status"); code == 0 {
		t.Errorf("in the clear: %s", out)
	}

	// Another certificate of another authority for the same process.
	pid := n.Pid()
	renewed := newOperatorsCA(t, dir, "renewed")
	renewed.issue("server", 11)
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	serial := func() (int64, error) {
		conn, err := tls.Dial("tcp", n.AdminAddr(), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}) //nolint:gosec // looks at what is shown
		if err != nil {
			return 0, err
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64(), nil
	}
	harness.Wait(t, 20*time.Second, "the new certificate", func(context.Context) error {
		if got, err := serial(); err != nil || got != 11 {
			return fmt.Errorf("serial %d, %v", got, err)
		}
		return nil
	})
	if out, code := run(renewed, "viewer", "status"); code != 0 || n.Pid() != pid {
		t.Errorf("after the reload: exit %d, process %d was %d: %s", code, n.Pid(), pid, out)
	}
	if _, code := run(servers, "viewer", "status"); code != 6 {
		t.Errorf("the old authority is still trusted: %d", code)
	}
	// Files that do not fit together change nothing.
	if err := os.WriteFile(cert, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	harness.Wait(t, 20*time.Second, "the refusal of the damaged certificate", func(context.Context) error {
		if len(n.Events("config.rejected")) == 0 {
			return errors.New("no event config.rejected")
		}
		return nil
	})
	if out, code := run(renewed, "viewer", "status"); code != 0 {
		t.Errorf("a damaged file took the certificate away: %d %s", code, out)
	}
}
