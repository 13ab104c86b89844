package integration

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/integration/harness"
)

// clientSite is where the clients of TestRealClients go: publishers to one node, subscribers to another, or both to the one
// that there is.
type clientSite struct {
	pub, sub       *harness.Node
	pubTLS, subTLS string // host:port
	caFile         string
	tls            *tls.Config
}

// TestRealClients drives the broker with client libraries that others wrote, all of them at once: QoS 0, 1 and 2, retained
// messages, wills, sessions, and the properties of MQTT 5 where the library has them. TestMosquittoClients is its older half.
func TestRealClients_v311_MQTT_7_0_0_2(t *testing.T) {
	long(t)
	for _, nodes := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			s := startClientSite(t, nodes)
			atOnce(t, []clientCheck{
				{"mosquitto", func(t *testing.T) { mosquittoChecks(t, s) }},
				{"Paho Python", func(t *testing.T) { pahoPythonChecks(t, s) }},
				{"MQTT.js", func(t *testing.T) { mqttJSChecks(t, s) }},
				{"paho.mqtt.golang", func(t *testing.T) { paho3Checks(t, s) }},
				{"autopaho", func(t *testing.T) { autopahoChecks(t, s) }},
			})
		})
	}
}

// clientCheck is a subtest.
type clientCheck struct {
	name string
	run  func(*testing.T)
}

// atOnce runs subtests side by side, however few -parallel allows: they wait for the broker, hardly ever for a processor.
func atOnce(t *testing.T, checks []clientCheck) {
	t.Helper()
	var all sync.WaitGroup
	for _, c := range checks {
		all.Go(func() { t.Run(c.name, c.run) })
	}
	all.Wait()
}

// startClientSite starts nodes that serve TLS beside TCP, WebSocket included.
func startClientSite(t *testing.T, nodes int) *clientSite {
	t.Helper()
	dir := t.TempDir()
	s := &clientSite{caFile: filepath.Join(dir, "ca.pem"), tls: &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}}
	cert, key := filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key")
	authority := writeCertificate(t, s.caFile, cert, key)
	s.tls.RootCAs.AddCert(authority)
	c := harness.New(t, harness.Options{Nodes: nodes, Flags: []string{"--set", "tls.cert=" + cert, "--set", "tls.key=" + key, "--mqtts-addr", "127.0.0.1:0"}})
	c.StartAll(t)
	s.pub, s.sub = c.Nodes[0], c.Nodes[nodes-1]
	s.pubTLS = s.pub.Events("server.ready")[0].String("mqtts_addr")
	s.subTLS = s.sub.Events("server.ready")[0].String("mqtts_addr")
	return s
}

// writeCertificate makes an authority and a certificate of 127.0.0.1 that it signed.
func writeCertificate(t *testing.T, caFile, certFile, keyFile string) *x509.Certificate {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(file, kind string, der []byte) {
		t.Helper()
		must(os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	from, to := time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "client checks"}, NotBefore: from, NotAfter: to,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	must(err)
	write(caFile, "CERTIFICATE", der)
	authority, err := x509.ParseCertificate(der)
	must(err)
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, NotBefore: from, NotAfter: to,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err = x509.CreateCertificate(rand.Reader, server, authority, &key.PublicKey, caKey)
	must(err)
	write(certFile, "CERTIFICATE", der)
	der, err = x509.MarshalPKCS8PrivateKey(key)
	must(err)
	write(keyFile, "PRIVATE KEY", der)
	return authority
}

// needClient skips where a client is missing, except in CI, where .ci/run installs it.
func needClient(t testing.TB, missing error) {
	t.Helper()
	if missing == nil {
		return
	}
	if os.Getenv("FLOTILLA_CI") != "" {
		t.Fatal(missing)
	}
	t.Skip(missing)
}

// scriptTimeout bounds a script of checks, whose own waits are a minute each.
const scriptTimeout = 4 * time.Minute

// runScript runs a program that prints one JSON line per check, and reports each as a subtest. The last line tells how many
// there were, so that a script that ends early does not pass.
func runScript(t *testing.T, least int, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), scriptTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	failed := cmd.Run()
	ran, announced := 0, -1
	for lines := bufio.NewScanner(&stdout); lines.Scan(); {
		var line struct {
			Check, Error string
			OK           bool
			Checks       *int
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Errorf("the script printed %q: %v", lines.Text(), err)
			continue
		}
		if line.Checks != nil {
			announced = *line.Checks
			continue
		}
		ran++
		t.Run(line.Check, func(t *testing.T) {
			if !line.OK {
				t.Error(line.Error)
			}
		})
	}
	if failed != nil || announced != ran || ran < least {
		t.Errorf("%d checks of at least %d, the script announced %d: %v\n%s", ran, least, announced, failed, stderr.String())
	}
}

// pahoPythonChecks needs Debian's python3-paho-mqtt; the first Python that has it runs the script.
func pahoPythonChecks(t *testing.T, s *clientSite) {
	python := ""
	for _, p := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(p, "-c", "import paho.mqtt.subscribeoptions").Run() == nil {
			python = p
			break
		}
	}
	if python == "" {
		needClient(t, fmt.Errorf("no Python 3 has the Paho client (Debian: python3-paho-mqtt)"))
	}
	runScript(t, 52, python, filepath.Join("clients", "python", "check.py"),
		"--pub", s.pub.MQTTAddr(), "--sub", s.sub.MQTTAddr(), "--tls", s.subTLS, "--ca", s.caFile)
}

// mqttJSChecks runs everything over TCP and over WebSocket, and what a transport must carry inside TLS, too.
func mqttJSChecks(t *testing.T, s *clientSite) {
	dir := filepath.Join("clients", "mqttjs")
	if _, err := exec.LookPath("node"); err != nil {
		needClient(t, fmt.Errorf("MQTT.js needs Node.js: %w", err))
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "mqtt", "package.json")); err != nil {
		needClient(t, fmt.Errorf("MQTT.js is not installed: run npm ci in integration/clients/mqttjs (%w)", err))
	}
	script := filepath.Join(dir, "check.mjs")
	check := func(name, scheme, path, pub, sub string, least int, only string) clientCheck {
		return clientCheck{name, func(t *testing.T) {
			runScript(t, least, "node", script, "--pub", scheme+"://"+pub+path, "--sub", scheme+"://"+sub+path, "--ca", s.caFile, "--only", only)
		}}
	}
	atOnce(t, []clientCheck{
		check("TCP", "mqtt", "", s.pub.MQTTAddr(), s.sub.MQTTAddr(), 50, ""),
		check("WebSocket", "ws", "/mqtt", s.pub.MQTTAddr(), s.sub.MQTTAddr(), 50, ""),
		check("TLS", "mqtts", "", s.pubTLS, s.subTLS, 3, "transport"),
		check("secure WebSocket", "wss", "/mqtt", s.pubTLS, s.subTLS, 3, "transport"),
	})
}

// clientName makes a topic or client id of a check from its test's name, short enough for MQTT 3.1.
func clientName(t testing.TB, part string) string {
	return strings.ToLower(part) + fmt.Sprintf("%016x", hash(t.Name()+part))
}
