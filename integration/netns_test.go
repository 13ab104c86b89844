package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/integration/harness"
)

// TestOperationsManual runs docs/operations.md: each command of its console blocks, on the machine that its prompt names. The
// machines are network namespaces with files of their own. FLOTILLA_NETNS=run only wants every command to succeed; write (`make
// netns`) also puts what it printed into the document. It needs root and iproute2.
func TestOperationsManual(t *testing.T) {
	mode := os.Getenv("FLOTILLA_NETNS")
	if mode == "" {
		t.Skip("FLOTILLA_NETNS is not set: see `make netns`")
	}
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	for _, tool := range []string{"ip", "unshare", "nsenter", "bash"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is missing: install iproute2 and util-linux", tool)
		}
	}
	const path = "../docs/operations.md"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(t)
	doc, failed := l.play(t, strings.Split(string(text), "\n"))
	if mode == "write" && !failed {
		if err := os.WriteFile(path, []byte(strings.Join(doc, "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// lab is a row of machines on one switch.
type lab struct {
	dir    string
	prefix string
	pids   map[string]int // of the process that holds a machine's namespaces
}

// machines of the manual and their addresses, from the range for documentation.
func machines() map[string]string {
	return map[string]string{
		"ops": "192.0.2.10", "n1": "192.0.2.11", "n2": "192.0.2.12", "n3": "192.0.2.13", "n4": "192.0.2.14", "n5": "192.0.2.15",
	}
}

// places are the folders that every machine has for itself.
func places() []string { return []string{"/etc/flotilla", "/var/lib/flotilla", "/usr/local/bin"} }

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{dir: t.TempDir(), prefix: fmt.Sprintf("fl%d-", os.Getpid()%10000), pids: map[string]int{}}
	for _, p := range places() {
		if _, err := os.Stat(p); errors.Is(err, os.ErrNotExist) {
			if err := os.MkdirAll(p, 0o755); err != nil {
				t.Skipf("%s: %v", p, err)
			}
			t.Cleanup(func() { _ = os.Remove(p) }) // only a mount point, empty
		}
	}
	l.build(t)
	l.run(t, "ip", "netns", "add", l.prefix+"sw")
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", l.prefix+"sw").Run() })
	l.run(t, "ip", "-n", l.prefix+"sw", "link", "add", "br0", "type", "bridge")
	l.run(t, "ip", "-n", l.prefix+"sw", "link", "set", "br0", "up")
	for name, addr := range machines() {
		l.machine(t, name, addr)
	}
	return l
}

// build makes the program twice: the second one is the next version.
func (l *lab) build(t *testing.T) {
	for _, v := range []string{"0.1.0", "0.2.0"} {
		out := filepath.Join(l.dir, "flotilla-"+v)
		if dir := os.Getenv("FLOTILLA_NETNS_BUILDS"); dir != "" { // built before
			copyFile(t, filepath.Join(dir, "flotilla-"+v), out)
			continue
		}
		cmd := exec.Command("go", "build", "-ldflags", "-X main.version="+v, "-o", out, "./cmd/flotilla")
		cmd.Dir = ".."
		if b, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build: %v\n%s", err, b)
		}
	}
}

func (l *lab) run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Skipf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// machine makes one: a network namespace on the switch, and folders of its own.
func (l *lab) machine(t *testing.T, name, addr string) {
	ns, root := l.prefix+name, filepath.Join(l.dir, name)
	l.run(t, "ip", "netns", "add", ns)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", ns).Run() })
	l.run(t, "ip", "link", "add", "eth0", "netns", ns, "type", "veth", "peer", "name", "p-"+name, "netns", l.prefix+"sw")
	l.run(t, "ip", "-n", l.prefix+"sw", "link", "set", "p-"+name, "master", "br0", "up")
	l.run(t, "ip", "-n", ns, "addr", "add", addr+"/24", "dev", "eth0")
	l.run(t, "ip", "-n", ns, "link", "set", "eth0", "up")
	l.run(t, "ip", "-n", ns, "link", "set", "lo", "up")
	script := "set -e\n"
	for _, p := range append(places(), "/home", "/run") {
		if err := os.MkdirAll(root+p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range places() {
		script += fmt.Sprintf("mount --bind %s%s %s\n", root, p, p)
	}
	l.tools(t, root)
	script += "hostname " + name + "\nexec sleep infinity\n"
	cmd := exec.Command("ip", "netns", "exec", ns, "unshare", "-m", "-u", "--propagation", "private", "bash", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	l.pids[name] = cmd.Process.Pid
	harness.Wait(t, patience, "machine "+name+" to stand", func(ctx context.Context) error {
		if out, err := l.shell(ctx, name, "hostname"); err != nil || strings.TrimSpace(out) != name {
			return fmt.Errorf("its name is %q: %v", out, err)
		}
		return nil
	})
	t.Cleanup(func() {
		_, _ = l.shell(context.Background(), name, "poweroff")
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
}

// tools gives a machine the program, and stand-ins for what a machine with systemd has.
func (l *lab) tools(t *testing.T, root string) {
	bin := root + "/usr/local/bin/"
	copyFile(t, filepath.Join(l.dir, "flotilla-0.1.0"), bin+"flotilla")
	copyFile(t, filepath.Join(l.dir, "flotilla-0.2.0"), filepath.Join(root, "home", "flotilla-0.2.0"))
	for name, text := range map[string]string{
		"systemctl": standInSystemctl, "scp": standInScp, "journalctl": standInJournalctl, "poweroff": standInPoweroff,
	} {
		text = "#!/bin/bash\nLAB=" + l.dir + " RUN=" + root + "/run\n" + text
		if err := os.WriteFile(bin+name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Stand-ins: a namespace has no systemd and no ssh. They do what the unit of deploy/systemd does: start waits until the node is
// ready, unless --no-block is given; stop is SIGTERM.
const (
	standInSystemctl = `
start() {
  FLOTILLA_DATA_DIR=/var/lib/flotilla setsid flotilla start --config /etc/flotilla/flotilla.yaml --log-format console >>$RUN/log 2>&1 </dev/null &
  echo $! >$RUN/pid
}
stop() { kill -TERM $(cat $RUN/pid) 2>/dev/null || return 0; tail --pid=$(cat $RUN/pid) -f /dev/null; }
ready() {
  for i in $(seq 600); do
    flotilla check ready -q >/dev/null 2>&1 && return 0
    kill -0 $(cat $RUN/pid) 2>/dev/null || { echo "Job for flotilla.service failed. See journalctl -u flotilla." >&2; return 1; }
    sleep 0.1
  done
  return 1
}
block=1; verbs=()
for a in "$@"; do if [ "$a" = --no-block ]; then block=0; else verbs+=("$a"); fi; done
case ${verbs[0]} in
  start) start; if [ $block = 1 ]; then ready; fi ;;
  stop) stop ;;
  restart) stop; start; ready ;;
  reload) kill -HUP $(cat $RUN/pid) ;;
esac
`
	standInScp        = "shift; src=\"$1\"; host=\"${2%%:*}\"; cp -r \"$src\" \"$LAB/$host${2#*:}\"\n"
	standInJournalctl = "cat $RUN/log\n"
	standInPoweroff   = "[ -f $RUN/pid ] && kill -KILL $(cat $RUN/pid) 2>/dev/null; ip link set eth0 down; exit 0\n"
)

// shell runs a command on a machine, in its home.
func (l *lab) shell(ctx context.Context, machine, command string) (string, error) {
	cmd := exec.CommandContext(ctx, "nsenter", "-t", fmt.Sprint(l.pids[machine]), "-m", "-n", "-u", "bash", "-c",
		"cd "+filepath.Join(l.dir, machine, "home")+"\n"+command)
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "FLOTILLA_") }),
		"NO_COLOR=1", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second // what it left in the background keeps its output
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	return out.String(), err
}

var promptLine = regexp.MustCompile(`^(ops|n[1-5])# (.*)$`)

// play runs the console blocks and returns the document with what was printed.
func (l *lab) play(t *testing.T, lines []string) (doc []string, failed bool) {
	inside, here := false, ""
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```console"
		case inside && promptLine.MatchString(line):
			m := promptLine.FindStringSubmatch(line)
			command := []string{m[2]}
			doc = append(doc, line)
			if _, word, ok := strings.Cut(m[2], "<<'"); ok { // a file: up to its last line
				word = strings.TrimSuffix(word, "'")
				for i++; i < len(lines); i++ {
					doc, command = append(doc, lines[i]), append(command, lines[i])
					if lines[i] == word {
						break
					}
				}
			}
			here = m[1]
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			out, err := l.shell(ctx, here, strings.Join(command, "\n"))
			cancel()
			t.Logf("%s# %s (%v)\n%s", here, m[2], time.Since(start).Round(time.Millisecond), out)
			if err != nil {
				t.Errorf("line %d: %s# %s: %v", i+1, here, m[2], err)
				return doc, true
			}
			if out = strings.TrimRight(strings.ReplaceAll(out, l.dir, ""), "\n"); out != "" {
				doc = append(doc, strings.Split(out, "\n")...)
			}
			continue
		case inside:
			continue // what was printed the last time
		}
		doc = append(doc, line)
	}
	return doc, false
}
