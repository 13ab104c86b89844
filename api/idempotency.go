package api

import (
	"bytes"
	"crypto/sha256"
	"io"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

const (
	headerIdempotency = "Idempotency-Key"
	headerReplayed    = "Idempotency-Replayed"

	idempotencyTTL  = time.Hour
	idempotencyKey  = 255      // longest key
	idempotencyMost = 10_000   // answers that are kept; the oldest go first
	idempotencyKeep = 64 << 10 // longest answer that is kept
)

// once carries a request out once per Idempotency-Key: who sends it again within
// an hour gets the first answer. It is known on this node alone, and not after a
// restart: a client that goes to another node must know what it does. Answers
// from 500 are not kept, since the request may not have been carried out.
func (s *Server) once(w http.ResponseWriter, r *http.Request, c *caller, key string) {
	if len(key) > idempotencyKey {
		s.writeProblem(w, r, newProblem(422, codeOf(422), "an Idempotency-Key has at most 255 bytes"))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		s.writeProblem(w, r, newProblem(413, codeOf(413), "a request with an Idempotency-Key has at most 4 MiB"))
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	id := onceID{actor: c.Actor, key: key}
	request := sha256.Sum256(append([]byte(r.Method+" "+r.URL.RequestURI()+"\n"), body...))
	e, first := s.answers.begin(id, request)
	switch {
	case e.request != request:
		s.writeProblem(w, r, newProblem(422, client.CodeInvalid, "this Idempotency-Key was used for another request: take a new one for each thing to be done"))
		return
	case !first && !e.done():
		p := newProblem(409, client.CodeConflict, "a request with this Idempotency-Key is under way")
		p.RetryAfterMS = time.Second.Milliseconds()
		s.writeProblem(w, r, p)
		return
	case !first:
		e.replay(w)
		return
	}
	rec := &copier{ResponseWriter: w}
	defer func() {
		if rec.status == 0 || rec.status >= 500 || rec.over {
			s.answers.drop(id, e)
			return
		}
		s.answers.end(e, rec)
	}()
	s.mux.ServeHTTP(rec, r)
}

// onceID is a key of one caller: another caller's is another one.
type onceID struct{ actor, key string }

// onceAnswer is a request that is under way, or its answer.
type onceAnswer struct {
	id      onceID
	request [sha256.Size]byte
	at      time.Time

	ended  chan struct{} // closed when the rest is set
	status int
	header http.Header
	body   []byte
}

func (e *onceAnswer) done() bool {
	select {
	case <-e.ended:
		return true
	default:
		return false
	}
}

func (e *onceAnswer) replay(w http.ResponseWriter) {
	maps.Copy(w.Header(), e.header)
	w.Header().Set(headerReplayed, "true")
	w.WriteHeader(e.status)
	_, _ = w.Write(e.body) // the caller asks again
}

// answers are those that are kept for Idempotency-Key.
type answers struct {
	now func() time.Time

	mu sync.Mutex
	// Below mu.
	byID  map[onceID]*onceAnswer
	queue []*onceAnswer // in the order of time; those that were dropped included
}

func newAnswers(now func() time.Time) *answers {
	return &answers{now: now, byID: map[onceID]*onceAnswer{}}
}

// begin finds the request of an id, or begins it.
func (a *answers) begin(id onceID, request [sha256.Size]byte) (e *onceAnswer, first bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	for len(a.queue) > 0 && (len(a.queue) >= idempotencyMost || now.Sub(a.queue[0].at) > idempotencyTTL) {
		if old := a.queue[0]; a.byID[old.id] == old {
			delete(a.byID, old.id)
		}
		a.queue[0] = nil
		a.queue = a.queue[1:]
	}
	if e := a.byID[id]; e != nil {
		return e, false
	}
	e = &onceAnswer{id: id, request: request, at: now, ended: make(chan struct{})}
	a.byID[id] = e
	a.queue = append(a.queue, e)
	return e, true
}

func (a *answers) end(e *onceAnswer, rec *copier) {
	e.status, e.header, e.body = rec.status, rec.Header().Clone(), rec.body.Bytes()
	close(e.ended)
}

func (a *answers) drop(id onceID, e *onceAnswer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byID[id] == e {
		delete(a.byID, id)
	}
}

// copier keeps a copy of an answer that is not too long.
type copier struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
	over   bool
}

// WriteHeader notes the status.
func (c *copier) WriteHeader(status int) {
	if c.status == 0 {
		c.status = status
	}
	c.ResponseWriter.WriteHeader(status)
}

func (c *copier) Write(b []byte) (int, error) {
	if c.status == 0 {
		c.status = http.StatusOK
	}
	if c.over = c.over || c.body.Len()+len(b) > idempotencyKeep; !c.over {
		c.body.Write(b)
	}
	return c.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController flush.
func (c *copier) Unwrap() http.ResponseWriter { return c.ResponseWriter }
