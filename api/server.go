package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// Options configure a Server. Node and NodeID are required.
type Options struct {
	Node   Node
	NodeID string
	// Version stands in the OpenAPI document.
	Version string
	// Gatherer is what /metrics shows. Nil: no /metrics.
	Gatherer prometheus.Gatherer
	// Logger gets failures of the node. Nil: none.
	Logger *zap.Logger
}

const (
	readHeaderTimeout = 5 * time.Second  // a client that sends no request holds nothing for long
	idleTimeout       = 2 * time.Minute  // longer than the usual scrape interval
	maxHeaderBytes    = 32 << 10         // no request of ours comes near it
	statusTimeout     = 2 * time.Second  // for asking the other nodes
	requestTimeout    = 10 * time.Second // for lists and publishes
	maxBody           = 4 << 20          // a packet of 1 MiB in base64, with room
)

// Server answers the admin API of one node.
type Server struct {
	opt  Options
	lg   *zap.Logger
	mux  *http.ServeMux
	http http.Server
	spec []byte // the OpenAPI document
}

// NewServer builds the routes. It neither listens nor starts a goroutine.
func NewServer(opt Options) (*Server, error) {
	s := &Server{opt: opt, lg: opt.Logger, mux: http.NewServeMux()}
	if s.lg == nil {
		s.lg = zap.NewNop()
	}
	if err := s.routes(); err != nil {
		return nil, err
	}
	s.healthRoutes()
	if opt.Gatherer != nil {
		s.mux.Handle("GET /metrics", promhttp.HandlerFor(opt.Gatherer, promhttp.HandlerOpts{
			ErrorLog: zapPrinter{s.lg}, ErrorHandling: promhttp.ContinueOnError,
		}))
	}
	s.mux.HandleFunc("GET /openapi.json", s.openAPI)
	s.debugRoutes()
	s.http = http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: zap.NewStdLog(s.lg),
	}
	return s, nil
}

// Serve answers on a listener until Shutdown; then it returns nil.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown stops listening and waits for running requests until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(err, s.http.Close())
	}
	return nil
}

// Handler is the whole API as a handler.
func (s *Server) Handler() http.Handler {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.writeProblem(w, r, newProblem(403, "forbidden", "a web page of another origin may not change anything here"))
	}))
	return protection.Handler(http.HandlerFunc(s.route))
}

// route sends a request to its handler, and answers what has none with a
// problem, which the mux cannot do.
func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	defer s.recovered(w, r)
	if !hostAllowed(r) {
		s.writeProblem(w, r, newProblem(403, "forbidden", "on loopback the Host of a request must be an IP address or localhost"))
		return
	}
	h, pattern := s.mux.Handler(r)
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

// recovered turns a panic of a handler into a 500: a mistake in a list must not
// look like a node that is gone.
func (s *Server) recovered(w http.ResponseWriter, r *http.Request) {
	v := recover()
	if v == nil || v == http.ErrAbortHandler {
		return
	}
	s.lg.Error("handler panicked", eventField("api.failed"), opField(r.Pattern), zap.Any("panic", v), zap.Stack("stack"))
	p, _ := toProblem(errPanic)
	s.writeProblem(w, r, p)
}

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
func onLoopback(r *http.Request) bool {
	addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return false
	}
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// debugRoutes serves the profiler, on loopback only.
func (s *Server) debugRoutes() {
	guard := func(h http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if !onLoopback(r) {
				s.writeProblem(w, r, newProblem(403, "forbidden", "the profiler is open on loopback only"))
				return
			}
			h(w, r)
		}
	}
	s.mux.HandleFunc("GET /debug/pprof/", guard(pprof.Index))
	s.mux.HandleFunc("GET /debug/pprof/cmdline", guard(pprof.Cmdline))
	s.mux.HandleFunc("GET /debug/pprof/profile", guard(pprof.Profile))
	s.mux.HandleFunc("GET /debug/pprof/symbol", guard(pprof.Symbol))
	s.mux.HandleFunc("GET /debug/pprof/trace", guard(pprof.Trace))
}

func (s *Server) openAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/openapi+json")
	if _, err := w.Write(s.spec); err != nil {
		s.lg.Debug("answer not sent", errField(err))
	}
}

func errField(err error) zap.Field { return zap.NamedError("err", err) }

// zapPrinter is what promhttp logs to.
type zapPrinter struct{ lg *zap.Logger }

func (z zapPrinter) Println(v ...any) { z.lg.Sugar().Warnln(v...) }
