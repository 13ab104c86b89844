package api

import (
	"context"
	"net"
	"net/http"
)

// route sends a request to its handler after the gate: who asks, whether he
// may, and what happens beside the handler when something is changed.
func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	defer s.recovered(w, r)
	// Who shows a key is no web page that was led here: it does not know any.
	if r.Header.Get("Authorization") == "" && !hostAllowed(r) {
		s.writeProblem(w, r, newProblem(403, codeOf(403), "on loopback the Host of a request must be an IP address or localhost"))
		return
	}
	h, pattern := s.mux.Handler(r)
	row, known := s.rows[pattern]
	if !known { // what does not exist is told to those only who may look
		row = accessRow{role: RoleViewer}
	}
	if s.open(row) {
		s.serve(w, r, h, pattern)
		return
	}
	c, p := s.gate.authenticate(r)
	if p != nil {
		s.writeProblem(w, r, p)
		return
	}
	r = r.WithContext(context.WithValue(r.Context(), callerKey{}, c))
	if !known {
		s.serve(w, r, h, pattern)
		return
	}
	if p := s.gate.authorize(&c, row, onLoopback(r)); p != nil {
		s.auditDenied(r, row, &c, p.Status)
		s.writeProblem(w, r, p)
		return
	}
	if changes(r.Method) || row.flags&audited != 0 {
		s.change(w, r, row, &c, h)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// open says whether a route asks nobody who he is.
func (s *Server) open(row accessRow) bool {
	return row.pattern != "" && (row.role == RoleNone || row.role == RoleMetrics && s.opt.Access.OpenMetrics)
}

// changes says whether a method does more than read.
func changes(method string) bool { return method != http.MethodGet && method != http.MethodHead }

// serve answers what has a handler, and the rest with a problem, which the mux
// cannot do.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, h http.Handler, pattern string) {
	if pattern != "" {
		s.mux.ServeHTTP(w, r)
		return
	}
	probe := &statusProbe{header: http.Header{}}
	h.ServeHTTP(probe, r)
	p := newProblem(404, codeOf(404), "there is nothing at this path")
	p.Hints = []string{"the paths are listed in /openapi.json"}
	if probe.status == http.StatusMethodNotAllowed {
		allow := probe.header.Get("Allow")
		w.Header().Set("Allow", allow)
		p = newProblem(405, codeOf(405), "this path takes "+allow)
	}
	s.writeProblem(w, r, p)
}

// change serves a request that changes something: If-Match first, then
// Idempotency-Key, and in the end the audit log.
func (s *Server) change(w http.ResponseWriter, r *http.Request, row accessRow, c *caller, h http.Handler) {
	rec := &recorder{ResponseWriter: w}
	defer func() {
		v := recover()
		if v != nil {
			rec.status = http.StatusInternalServerError
		}
		s.audit(r, row, c, rec)
		if v != nil {
			panic(v) // answered by recovered
		}
	}()
	if p := s.precondition(r); p != nil {
		s.writeProblem(rec, r, p)
		return
	}
	if key := r.Header.Get(headerIdempotency); key != "" && r.Method == http.MethodPost {
		s.once(rec, r, c, key)
		return
	}
	s.mux.ServeHTTP(rec, r)
}

// recorder notes what was answered.
type recorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader notes the status.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 || r.status < 200 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController flush.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// statusProbe records what the mux would have answered.
type statusProbe struct {
	header http.Header
	status int
}

func (p *statusProbe) Header() http.Header { return p.header }

func (p *statusProbe) Write(b []byte) (int, error) { return len(b), nil }

func (p *statusProbe) WriteHeader(status int) { p.status = status }

// hostAllowed refuses names on loopback: a web page whose name was made to
// point at 127.0.0.1 must not read the API of a node (DNS rebinding).
func hostAllowed(r *http.Request) bool {
	if !onLoopback(r) {
		return true
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if n := len(host); n > 2 && host[0] == '[' && host[n-1] == ']' {
		host = host[1 : n-1]
	}
	return host == "localhost" || net.ParseIP(host) != nil
}

// onLoopback says whether the request came to a loopback address.
func onLoopback(r *http.Request) bool { return loopbackOf(r.Context()) }

func loopbackOf(ctx context.Context) bool {
	addr, ok := ctx.Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return false
	}
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
