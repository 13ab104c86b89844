package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/flotilla-mqtt/flotilla/integration/harness"
)

// nfpmVersion builds the packages; it stays outside of go.mod.
const nfpmVersion = "v2.43.0"

// packaged skips what builds and installs packages unless it is asked for: it downloads nfpm and needs root.
func packaged(t *testing.T, tools ...string) {
	t.Helper()
	long(t)
	if os.Getenv("FLOTILLA_PACKAGES") == "" {
		t.Skip("FLOTILLA_PACKAGES is not set (make packages-test)")
	}
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
}

// run runs a command in the module's root and returns its output; it fails the test unless the command succeeds.
func run(t testing.TB, env []string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = "..", append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// buildPackage makes a package of the binary under test, as `make packages` does.
func buildPackage(t testing.TB, kind, version string) string {
	t.Helper()
	root, dir := t.TempDir(), t.TempDir()
	b, err := os.ReadFile("../deploy/packages/nfpm.yaml")
	if err != nil {
		t.Fatal(err)
	}
	// The binary under test instead of bin/flotilla.
	config := strings.ReplaceAll(string(b), "src: bin/flotilla", "src: "+harness.Binary(t))
	file := filepath.Join(root, "nfpm.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"ARCH=" + runtime.GOARCH, "VERSION=" + version, "GOFLAGS=-mod=mod"}
	args := []string{"package", "--config", file, "--packager", kind, "--target", dir}
	if nfpm := os.Getenv("FLOTILLA_NFPM"); nfpm != "" {
		run(t, env, nfpm, args...)
	} else {
		run(t, env, "go", append([]string{"run", "github.com/goreleaser/nfpm/v2/cmd/nfpm@" + nfpmVersion}, args...)...)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*."+kind))
	if err != nil || len(found) != 1 {
		t.Fatalf("nfpm made %v %v", found, err)
	}
	return found[0]
}

// packageFiles must be in both packages.
func packageFiles() []string {
	return []string{
		"/usr/bin/flotilla", "/usr/lib/systemd/system/flotilla.service", "/etc/flotilla/flotilla.yaml",
		"/usr/share/flotilla/prometheus/alerts.yaml", "/usr/share/flotilla/grafana/flotilla.json", "/usr/share/doc/flotilla/copyright",
	}
}

// TestPackagesRPM reads the rpm with rpm itself.
func TestPackagesRPM(t *testing.T) {
	packaged(t, "rpm")
	file := buildPackage(t, "rpm", "1.2.3")
	list := strings.Fields(run(t, nil, "rpm", "-qpl", file))
	for _, want := range packageFiles() {
		if !slices.Contains(list, want) {
			t.Errorf("%s is not in the rpm: %v", want, list)
		}
	}
	if config := run(t, nil, "rpm", "-qpc", file); strings.TrimSpace(config) != "/etc/flotilla/flotilla.yaml" {
		t.Errorf("configuration files: %q", config)
	}
	if info := run(t, nil, "rpm", "-qp", "--queryformat", "%{NAME} %{VERSION} %{LICENSE}", file); info != "flotilla 1.2.3 Apache-2.0" {
		t.Errorf("info: %q", info)
	}
	for _, script := range []string{"postinstall scriptlet", "preuninstall scriptlet", "postuninstall scriptlet"} {
		if !strings.Contains(run(t, nil, "rpm", "-qp", "--scripts", file), script) {
			t.Errorf("the rpm has no %s", script)
		}
	}
}

// TestPackagesDeb installs the deb on this machine, starts the node as the unit would, changes the configuration, upgrades, and
// removes the package: the data stays.
func TestPackagesDeb(t *testing.T) {
	packaged(t, "dpkg", "runuser", "systemd-analyze")
	const data = "/var/lib/flotilla"
	if _, err := os.Stat(data); err == nil {
		t.Skipf("%s exists: this machine has a node of its own", data)
	}
	t.Cleanup(func() {
		_ = exec.Command("dpkg", "--purge", "flotilla").Run()
		_ = exec.Command("userdel", "flotilla").Run()
		_ = os.RemoveAll(data)
		_ = os.RemoveAll("/etc/flotilla")
	})
	run(t, nil, "dpkg", "-i", buildPackage(t, "deb", "1.2.3"))
	installed(t)
	verifyUnit(t)

	unit := readUnit(t)
	serve(t, unit)
	before := snapshotOf(t, data)
	if len(before) == 0 {
		t.Fatalf("the node left nothing in %s", data)
	}
	const own = "version: 1\nlog_format: json\n"
	if err := os.WriteFile("/etc/flotilla/flotilla.yaml", []byte(own), 0o640); err != nil {
		t.Fatal(err)
	}
	run(t, []string{"DEBIAN_FRONTEND=noninteractive"}, "dpkg", "--force-confold", "-i", buildPackage(t, "deb", "1.2.4"))
	if b, _ := os.ReadFile("/etc/flotilla/flotilla.yaml"); string(b) != own {
		t.Errorf("the upgrade changed the configuration: %s", b)
	}
	serve(t, unit)
	run(t, nil, "dpkg", "--purge", "flotilla")
	after := snapshotOf(t, data)
	if _, err := os.Stat("/usr/bin/flotilla"); err == nil {
		t.Error("the binary is still there")
	}
	for _, name := range before {
		if strings.HasSuffix(name, "node.json") && !slices.Contains(after, name) {
			t.Errorf("%s is gone after the removal: %v", name, after)
		}
	}
	if len(after) == 0 {
		t.Error("the removal deleted the data")
	}
}

// installed looks at files, owner and user.
func installed(t testing.TB) {
	t.Helper()
	for _, f := range packageFiles() {
		if _, err := os.Stat(f); err != nil {
			t.Error(err)
		}
	}
	if out := run(t, nil, "getent", "passwd", "flotilla"); !strings.Contains(out, "/var/lib/flotilla:/usr/sbin/nologin") {
		t.Errorf("the user is %q", out)
	}
	if out := run(t, nil, "stat", "-c", "%U %G %a", "/etc/flotilla/flotilla.yaml", "/etc/flotilla", "/var/lib/flotilla"); out != "root flotilla 640\nroot flotilla 750\nflotilla flotilla 750\n" {
		t.Errorf("owners and modes: %q", out)
	}
	run(t, nil, "runuser", "-u", "flotilla", "--", "/usr/bin/flotilla", "config", "check", "/etc/flotilla/flotilla.yaml")
}

// verifyUnit lets systemd read the unit where it is installed.
func verifyUnit(t testing.TB) {
	t.Helper()
	out, err := exec.Command("systemd-analyze", "verify", "/usr/lib/systemd/system/flotilla.service").CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("flotilla.service:")) {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// unit is what a start by hand needs of the unit file.
type unit struct {
	exec, env []string
	user      string
}

func readUnit(t testing.TB) unit {
	t.Helper()
	b, err := os.ReadFile("/usr/lib/systemd/system/flotilla.service")
	if err != nil {
		t.Fatal(err)
	}
	var u unit
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "ExecStart":
			u.exec = strings.Fields(value)
		case "Environment":
			u.env = append(u.env, value)
		case "User":
			u.user = value
		}
	}
	if len(u.exec) == 0 || u.user != "flotilla" {
		t.Fatalf("unit: %+v", u)
	}
	return u
}

// serve starts the node with the unit's command line, user and environment, waits until it is ready, and stops it with SIGTERM.
func serve(t testing.TB, u unit) {
	t.Helper()
	if _, err := exec.LookPath("setpriv"); err != nil {
		t.Skip("setpriv is not installed")
	}
	cmd := exec.Command("setpriv", append([]string{"--reuid", u.user, "--regid", u.user, "--init-groups", "--"}, u.exec...)...)
	cmd.Env = append([]string{"PATH=/usr/bin:/bin"}, u.env...)
	for _, port := range []string{"MQTT", "CLUSTER", "ADMIN"} { // the usual ones may be taken here
		cmd.Env = append(cmd.Env, "FLOTILLA_"+port+"_ADDR=127.0.0.1:0")
	}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var log lockedText
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	harness.Wait(t, patience, "server.ready of the unit's command", func(context.Context) error {
		select {
		case err := <-done:
			return harness.Never(fmt.Errorf("it ended: %v\n%s", err, log.String()))
		default:
		}
		if !strings.Contains(log.String(), "server.ready") {
			return fmt.Errorf("not yet:\n%s", log.String())
		}
		return nil
	})
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("after SIGTERM: %v\n%s", err, log.String())
	}
}

// snapshotOf lists the files below a directory.
func snapshotOf(t testing.TB, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return files
}

var podVariable = regexp.MustCompile(`\$\(([A-Z_]+)\)`)

// statefulSet is what the test needs of the manifest.
type statefulSet struct {
	Kind string
	Spec struct {
		ServiceName         string `yaml:"serviceName"`
		PodManagementPolicy string `yaml:"podManagementPolicy"`
		MaxUnavailable      int    `yaml:"maxUnavailable"`
		PublishNotReady     bool   `yaml:"publishNotReadyAddresses"`
		ClusterIP           string `yaml:"clusterIP"`
		Replicas            int
		Template            struct {
			Spec struct {
				Grace      int `yaml:"terminationGracePeriodSeconds"`
				Containers []struct {
					Args           []string
					ReadinessProbe struct {
						Exec struct{ Command []string }
					} `yaml:"readinessProbe"`
					LivenessProbe any `yaml:"livenessProbe"`
					StartupProbe  any `yaml:"startupProbe"`
					Lifecycle     any
				}
			}
		}
		Retention map[string]string `yaml:"persistentVolumeClaimRetentionPolicy"`
	}
}

func manifests(t testing.TB) (set, service, budget statefulSet) {
	t.Helper()
	f, err := os.Open("../deploy/kubernetes/flotilla.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in := yaml.NewDecoder(f)
	for {
		var doc statefulSet
		if err := in.Decode(&doc); err != nil {
			break
		}
		switch {
		case doc.Kind == "StatefulSet":
			set = doc
		case doc.Kind == "Service" && doc.Spec.ClusterIP == "None":
			service = doc
		case doc.Kind == "PodDisruptionBudget":
			budget = doc
		}
	}
	return set, service, budget
}

// TestStatefulSet holds the conventions of a cluster in Kubernetes, and starts three processes with the very arguments of the
// manifest: names and addresses of pods are replaced by those of this machine, and what needs secrets by what needs none.
func TestStatefulSet(t *testing.T) {
	set, service, budget := manifests(t)
	pod := set.Spec.Template.Spec
	if set.Spec.PodManagementPolicy != "Parallel" || !service.Spec.PublishNotReady || budget.Spec.MaxUnavailable != 1 || pod.Grace <= 60 ||
		set.Spec.Retention["whenScaled"] != "Retain" || set.Spec.Retention["whenDeleted"] != "Retain" {
		t.Errorf("conventions: %+v %+v %+v", set.Spec, service.Spec, budget.Spec)
	}
	if len(pod.Containers) != 1 || pod.Containers[0].LivenessProbe != nil || pod.Containers[0].StartupProbe != nil || pod.Containers[0].Lifecycle != nil {
		t.Fatalf("a pod has one container, and neither a liveness nor a startup probe nor a hook: %+v", pod.Containers)
	}
	args := pod.Containers[0].Args
	if slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "--node-id") }) {
		t.Error("a pod that lost its claim needs a new identity: no --node-id")
	}
	if got := strings.Join(pod.Containers[0].ReadinessProbe.Exec.Command, " "); got != "flotilla check ready -q" {
		t.Errorf("readiness: %q", got)
	}
	long(t)
	simulatePods(t, set, args)
}

// simulatePods starts a process for each pod.
func simulatePods(t *testing.T, set statefulSet, args []string) {
	t.Helper()
	c := harness.New(t, harness.Options{Nodes: set.Spec.Replicas}) // addresses and a place for data
	var peers []string
	for _, n := range c.Nodes {
		peers = append(peers, n.ClusterAddr())
	}
	for i, n := range c.Nodes {
		own := []string{"--data-dir", n.DataDir, "--admin-addr", n.AdminAddr(), "--log-format", "json", "--insecure-cluster"}
		for _, a := range args {
			if name := podVariable.FindStringSubmatch(a); name != nil && name[1] != "POD_NAME" {
				t.Errorf("%s: the manifest does not define it", a)
			}
			switch key, _, _ := strings.Cut(a, "="); {
			case a == "start", strings.HasPrefix(a, "--set=cluster.tls"), key == "--join-token-file":
			case key == "--join":
				own = append(own, "--join="+strings.Join(peers, ",")) // what the headless service resolves to
			case key == "--advertise-addr":
				own = append(own, "--advertise-addr="+n.ClusterAddr())
			case key == "--cluster-addr":
				own = append(own, "--cluster-addr=0.0.0.0:"+hostPort(t, n.ClusterAddr())[3])
			case key == "--mqtt-addr":
				own = append(own, "--mqtt-addr=0.0.0.0:"+hostPort(t, n.MQTTAddr())[3])
			default:
				own = append(own, a)
			}
		}
		startPod(t, fmt.Sprintf("flotilla-%d", i), own)
	}
	for _, n := range c.Nodes {
		harness.Wait(t, patience, "the readiness probe of a pod", func(ctx context.Context) error {
			cmd := exec.CommandContext(ctx, harness.Binary(t), "check", "ready", "-q", "-e", "http://"+n.AdminAddr())
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
	}
	harness.Wait(t, patience, "three members with identities of their own", func(ctx context.Context) error {
		s, err := c.Nodes[0].Status(ctx)
		if err == nil && (len(s.Nodes) != set.Spec.Replicas || !s.Healthy) {
			err = fmt.Errorf("%d nodes, %v", len(s.Nodes), s.Reasons)
		}
		return err
	})
}

// startPod runs the binary until the test ends.
func startPod(t testing.TB, name string, args []string) {
	t.Helper()
	cmd := exec.Command(harness.Binary(t), append([]string{"start"}, args...)...)
	cmd.Env = append(os.Environ(), "POD_NAME="+name)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var log lockedText
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %s", name, log.String())
		}
	})
}

// lockedText collects the output of a process while others read it.
type lockedText struct {
	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

func (l *lockedText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// String is what was written so far.
func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// TestStatefulSetSchema lets kubectl read the manifest into its own types and write it again, without a server: what it does not
// know is gone then.
func TestStatefulSetSchema(t *testing.T) {
	if _, err := exec.LookPath("kubectl"); err != nil {
		t.Skip("kubectl is not installed")
	}
	all, err := os.ReadFile("../deploy/kubernetes/flotilla.yaml")
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(bytes.Split(all, []byte("\n---\n")), func(b []byte) bool { return bytes.Contains(b, []byte("kind: StatefulSet")) })
	if at < 0 {
		t.Fatal("no StatefulSet")
	}
	source := bytes.Split(all, []byte("\n---\n"))[at]
	cmd := exec.CommandContext(t.Context(), "kubectl", "set", "env", "--local", "-f", "-", "-o", "yaml", "UNUSED=x")
	cmd.Stdin = bytes.NewReader(source)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var ours, known map[string]any
	if err := errors.Join(yaml.Unmarshal(source, &ours), yaml.Unmarshal(out, &known)); err != nil {
		t.Fatal(err)
	}
	for _, path := range lostPaths("", ours, known) {
		t.Errorf("kubectl knows no %s", path)
	}
}

// lostPaths are the members of a that b lacks.
func lostPaths(path string, a, b any) (lost []string) {
	switch a := a.(type) {
	case map[string]any:
		other, _ := b.(map[string]any)
		for k, v := range a {
			w, ok := other[k]
			if !ok {
				lost = append(lost, path+"."+k)
				continue
			}
			lost = append(lost, lostPaths(path+"."+k, v, w)...)
		}
	case []any:
		other, _ := b.([]any)
		for i, v := range a {
			if i >= len(other) {
				return append(lost, fmt.Sprintf("%s[%d]", path, i))
			}
			lost = append(lost, lostPaths(fmt.Sprintf("%s[%d]", path, i), v, other[i])...)
		}
	}
	return lost
}
