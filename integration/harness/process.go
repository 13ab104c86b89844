package harness

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Event is one log event of a node: a JSON line on stderr.
type Event struct {
	// At is when the harness read the line.
	At time.Time
	// Name is the stable name, for example "server.ready".
	Name string
	// Fields holds all members of the line.
	Fields map[string]any
}

// String returns a member as text, empty if it is not there.
func (e Event) String(key string) string {
	s, _ := e.Fields[key].(string)
	return s
}

// process is one run of the binary.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended and its log is complete

	mu     sync.Mutex
	events []Event // guarded by mu
	last   []string
	lines  int   // guarded by mu; of this run
	code   int   // exit code, -1 after a signal; valid when done is closed
	err    error // of copying the log
}

// keptLines is how many lines of a log a failure message quotes.
const keptLines = 25

// startProcess runs the binary with its output appended to the log file.
func startProcess(bin string, args, env []string, logPath string) (*process, error) {
	logFile, err := os.OpenFile(logPath, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, logFile.Close())
	}
	p := &process{cmd: exec.Command(bin, args...), done: make(chan struct{}), code: -1}
	p.cmd.Env = append(ownEnv(), env...)
	p.cmd.Stdout, p.cmd.Stderr = w, w
	// A node must not outlive a test process that was killed.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", bin, err), r.Close(), w.Close(), logFile.Close())
	}
	_ = w.Close()
	go p.copyLog(r, logFile)
	return p, nil
}

// ownEnv is the environment without the variables that configure a node: those of the test run would reach it.
func ownEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "FLOTILLA_") })
}

// copyLog runs until the process has closed its output, and then waits for its exit.
func (p *process) copyLog(r io.ReadCloser, file io.WriteCloser) {
	defer close(p.done)
	in := bufio.NewReaderSize(r, 64<<10)
	var failed error
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			if _, werr := file.Write(line); werr != nil && failed == nil {
				failed = werr
			}
			p.note(bytes.TrimSpace(line))
		}
		if err != nil {
			break
		}
	}
	_ = r.Close()
	failed = errors.Join(failed, file.Close())
	_ = p.cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.code, p.err = p.cmd.ProcessState.ExitCode(), failed
}

func (p *process) note(line []byte) {
	now := time.Now()
	var fields map[string]any
	var name string
	if len(line) > 0 && line[0] == '{' && json.Unmarshal(line, &fields) == nil {
		name, _ = fields["event"].(string)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines++
	p.last = append(p.last, string(line))
	if len(p.last) > keptLines {
		p.last = p.last[1:]
	}
	if name != "" {
		p.events = append(p.events, Event{At: now, Name: name, Fields: fields})
	}
}

func (p *process) find(name string) []Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []Event
	for _, e := range p.events {
		if e.Name == name {
			found = append(found, e)
		}
	}
	return found
}

func (p *process) tail() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.last...)
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *process) exitCode() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.code
}

func (p *process) signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }
