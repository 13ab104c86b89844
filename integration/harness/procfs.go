package harness

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// diallers tells which process dialled a connection. All nodes dial from loopback, so the socket is looked up in /proc: each
// process lists the inodes of its sockets, and the kernel's table gives the local port of an inode. One reading answers all who
// asked before it began: when each read for itself, a table of thousands of dead sockets was read thousands of times, nodes
// gave up and dialled again, and the table grew until the test had no descriptor left.
type diallers struct {
	pids func() map[int]string // by process id: what to call it

	mu      sync.Mutex
	next    *dialReading // guarded by mu: for those who ask now
	running bool         // guarded by mu: a goroutine reads
}

type dialReading struct {
	done   chan struct{}
	byPort map[int]string
}

// of names the process that dialled conn, "" if it is gone or not one of ours.
func (d *diallers) of(conn net.Conn) string {
	addr, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return ""
	}
	d.mu.Lock()
	if d.next == nil {
		d.next = &dialReading{done: make(chan struct{})}
	}
	r := d.next
	if !d.running {
		d.running = true
		go d.run()
	}
	d.mu.Unlock()
	<-r.done
	return r.byPort[addr.Port]
}

// run reads until nobody asks any more.
func (d *diallers) run() {
	for {
		d.mu.Lock()
		r := d.next
		d.next = nil
		d.running = r != nil
		d.mu.Unlock()
		if r == nil {
			return
		}
		r.byPort = socketPorts(socketInodes(d.pids()))
		close(r.done)
	}
}

// pids are the processes of the nodes that run.
func (c *Cluster) pids() map[int]string {
	pids := map[int]string{}
	for _, n := range c.Nodes {
		if pid := n.Pid(); pid != 0 {
			pids[pid] = n.ID
		}
	}
	return pids
}

// socketInodes are the sockets of processes, with the names of those.
func socketInodes(pids map[int]string) map[string]string {
	owner := map[string]string{}
	for pid, name := range pids {
		dir := fmt.Sprintf("/proc/%d/fd", pid)
		entries, _ := os.ReadDir(dir) // none, if the process has ended
		for _, e := range entries {
			target, _ := os.Readlink(filepath.Join(dir, e.Name()))
			if inode, ok := strings.CutPrefix(target, "socket:["); ok {
				owner[strings.TrimSuffix(inode, "]")] = name
			}
		}
	}
	return owner
}

// socketPorts are the ports of 127.0.0.1 that those sockets are bound to.
func socketPorts(owner map[string]string) map[int]string {
	byPort := map[int]string{}
	f, err := os.Open("/proc/net/tcp")
	if err != nil {
		return byPort
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) <= 9 || owner[fields[9]] == "" {
			continue
		}
		if hex, ok := strings.CutPrefix(fields[1], "0100007F:"); ok {
			if port, err := strconv.ParseUint(hex, 16, 16); err == nil {
				byPort[int(port)] = owner[fields[9]]
			}
		}
	}
	return byPort
}

// stopped tells whether every thread of a process is in state T.
func stopped(pid int) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return false
	}
	for _, path := range threads {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		// The state follows the name, which stands in parentheses and may hold anything.
		if at := strings.LastIndexByte(string(b), ')'); at < 0 || !strings.HasPrefix(string(b[at+1:]), " T") {
			return false
		}
	}
	return true
}

// Memory is what the process holds now and held at most, in bytes of resident memory; 0 when nothing runs.
func (n *Node) Memory() (now, peak int64) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.Pid()))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(b)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			now = kib << 10
		}
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); err == nil {
			peak = kib << 10
		}
	}
	return now, peak
}

// Load is the machine's load average over the last minute: figures are printed beside it.
func Load() float64 {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	var load float64
	_, _ = fmt.Sscan(string(b), &load)
	return load
}
