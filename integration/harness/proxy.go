package harness

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"
)

// Rule says what a proxy does with the bytes of a link. The zero value passes them on.
type Rule struct {
	// Cut resets existing connections and refuses new ones.
	Cut bool
	// StallIn holds the bytes from the dialler to the target, StallOut those from the target to the dialler: the link is up
	// and silent, as after a pulled cable. What is held arrives when the rule ends.
	StallIn, StallOut bool
	// Delay is added to each chunk in both directions, and up to Jitter by chance; the order is kept.
	Delay, Jitter time.Duration
	// BytesPerSecond bounds each direction, 0: nothing does.
	BytesPerSecond int
	// BreakAfter resets the connection after so many bytes in either direction, in the middle of a frame; 0: never.
	BreakAfter int
}

// Proxy passes TCP connections to a target and can hurt them, for each dialler apart.
type Proxy struct {
	target string
	source func(net.Conn) string // names who dialled; nil: everybody is ""
	l      net.Listener
	wg     sync.WaitGroup

	mu     sync.Mutex
	rules  map[string]Rule // guarded by mu; key is a source, "*" is everybody without a rule
	links  map[*link]bool  // guarded by mu
	closed bool            // guarded by mu
}

// Everybody is the source whose rule counts for all that have none of their own.
const Everybody = "*"

// NewProxy listens on a free loopback port. source names who dialled, by the accepted connection; nil: everybody is "".
func NewProxy(target string, source func(net.Conn) string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the proxy of %s: %w", target, err)
	}
	p := &Proxy{target: target, source: source, l: l, rules: map[string]Rule{}, links: map[*link]bool{}}
	p.wg.Go(p.accept)
	return p, nil
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.l.Addr().String() }

// Set replaces the rule of a source.
func (p *Proxy) Set(source string, r Rule) {
	p.mu.Lock()
	p.rules[source] = r
	var hit []*link
	for l := range p.links {
		if source == Everybody || l.source == source {
			hit = append(hit, l)
		}
	}
	p.mu.Unlock()
	for _, l := range hit {
		l.set(p.ruleOf(l.source))
	}
}

// Heal removes all rules.
func (p *Proxy) Heal() {
	p.mu.Lock()
	p.rules = map[string]Rule{}
	p.mu.Unlock()
	p.Set(Everybody, Rule{})
}

// Links is how many connections pass now.
func (p *Proxy) Links() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Close ends all connections and joins the proxy's goroutines. It is idempotent.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	links := p.links
	p.links = map[*link]bool{}
	p.mu.Unlock()
	_ = p.l.Close()
	for l := range links {
		l.close()
	}
	p.wg.Wait()
}

func (p *Proxy) ruleOf(source string) Rule {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r, ok := p.rules[source]; ok {
		return r
	}
	return p.rules[Everybody]
}

func (p *Proxy) accept() {
	for told := false; ; {
		in, err := p.l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no descriptor, say: a proxy that ended for it would be a partition that nobody heals
			if !told {
				fmt.Fprintf(os.Stderr, "proxy for %s: %v\n", p.target, err)
			}
			told = true
			time.Sleep(10 * time.Millisecond)
			continue
		}
		p.wg.Go(func() { p.connect(in) })
	}
}

func (p *Proxy) connect(in net.Conn) {
	source := ""
	if p.source != nil {
		source = p.source(in)
	}
	rule := p.ruleOf(source)
	if rule.Cut {
		reset(in)
		return
	}
	out, err := net.DialTimeout("tcp", p.target, 5*time.Second)
	if err != nil {
		reset(in)
		return
	}
	l := &link{source: source, in: in, out: out, gone: make(chan struct{}), changed: make(chan struct{}), rule: rule}
	p.mu.Lock()
	closed := p.closed
	if !closed {
		p.links[l] = true
	}
	p.mu.Unlock()
	if closed {
		l.close()
		return
	}
	l.set(p.ruleOf(source)) // a rule that came between the look and the entry
	l.run()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// link is one connection through the proxy. It has a reader and a writer for each direction.
type link struct {
	source  string
	in, out net.Conn

	once sync.Once
	gone chan struct{} // closed when the link ends

	mu      sync.Mutex
	rule    Rule          // guarded by mu
	passed  int           // guarded by mu: bytes, of both directions
	changed chan struct{} // guarded by mu; closed and replaced when rule changes
}

type chunk struct {
	data []byte
	due  time.Time
}

const (
	chunkBytes = 32 << 10
	// chunksHeld bounds what a stalled direction holds: 8 MiB, then TCP pushes back.
	chunksHeld = 256
)

func (l *link) set(r Rule) {
	if r.Cut {
		l.close()
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rule = r
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *link) current() (Rule, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rule, l.changed
}

// run passes bytes until either side ends.
func (l *link) run() {
	var wg sync.WaitGroup
	l.direction(&wg, l.in, l.out, func(r Rule) bool { return r.StallIn })
	l.direction(&wg, l.out, l.in, func(r Rule) bool { return r.StallOut })
	wg.Wait()
}

func (l *link) direction(wg *sync.WaitGroup, from, to net.Conn, stalled func(Rule) bool) {
	queue := make(chan chunk, chunksHeld) // the bytes that a cable would hold
	wg.Go(func() {
		defer close(queue)
		var due time.Time // of the last chunk: none overtakes another
		for {
			buf := make([]byte, chunkBytes)
			n, err := from.Read(buf)
			if n > 0 {
				rule, _ := l.current()
				due = rule.due(due, n)
				select {
				case queue <- chunk{buf[:n], due}:
				case <-l.gone:
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
	wg.Go(func() {
		defer l.close()
		for c := range queue {
			if !l.hold(c, stalled) {
				return
			}
			if !l.write(to, c.data) {
				return
			}
		}
	})
}

// hold waits until the chunk may pass; false: the link is gone.
func (l *link) hold(c chunk, stalled func(Rule) bool) bool {
	if d := time.Until(c.due); d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-l.gone:
			return false
		}
	}
	for {
		rule, changed := l.current()
		if !stalled(rule) {
			return true
		}
		select {
		case <-changed:
		case <-l.gone:
			return false
		}
	}
}

// write passes a chunk on; false: the link ends here.
func (l *link) write(to net.Conn, data []byte) bool {
	l.mu.Lock()
	limit := l.rule.BreakAfter
	l.passed += len(data)
	over := limit > 0 && l.passed >= limit
	l.mu.Unlock()
	if over {
		data = data[:len(data)/2]
	}
	_, err := to.Write(data)
	return err == nil && !over
}

// due is when a chunk may pass that came now, behind one that may pass at last.
func (r Rule) due(last time.Time, size int) time.Time {
	at := time.Now().Add(r.Delay)
	if r.Jitter > 0 {
		at = at.Add(rand.N(r.Jitter))
	}
	if at.Before(last) {
		at = last
	}
	if r.BytesPerSecond > 0 {
		at = at.Add(time.Duration(size) * time.Second / time.Duration(r.BytesPerSecond))
	}
	return at
}

func (l *link) close() {
	l.once.Do(func() {
		close(l.gone)
		reset(l.in)
		reset(l.out)
	})
}

// reset closes a connection so that the peer sees a reset and not an orderly end.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}
