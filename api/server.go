package api

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
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
	// Access says who may use the API.
	Access Access
	// Gatherer is what /metrics shows. Nil: no /metrics.
	Gatherer prometheus.Gatherer
	// Registerer takes the metrics of the API itself. Nil: none.
	Registerer prometheus.Registerer
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
	mux  *routeMux
	http http.Server
	spec []byte // the OpenAPI document
	gate *gate
	// rows and actions by the pattern of a route: who may call it, and its operation id.
	rows    map[string]accessRow
	actions map[string]string
	answers *answers
}

// NewServer builds the routes. It neither listens nor starts a goroutine.
func NewServer(opt Options) (*Server, error) {
	s := &Server{opt: opt, lg: opt.Logger, mux: &routeMux{ServeMux: http.NewServeMux()}, answers: newAnswers(time.Now)}
	if s.lg == nil {
		s.lg = zap.NewNop()
	}
	s.gate = &gate{access: opt.Access, keys: opt.Node, lg: s.lg, metrics: newMetrics(opt.Registerer), failures: newFailures(time.Now), now: time.Now}
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
	var err error
	if s.rows, err = accessRows(s.mux.patterns); err != nil {
		return nil, err
	}
	s.http = http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: log.New(serverErrors{s.lg}, "", 0),
	}
	return s, nil
}

// serverErrors logs what net/http reports of connections (failed TLS handshakes, above all) under one message, so that the limit
// of lines for each message holds for strangers, too.
type serverErrors struct{ lg *zap.Logger }

func (e serverErrors) Write(line []byte) (int, error) {
	e.lg.Warn("the admin port reports an error of a connection", zap.String("err", strings.TrimSpace(string(line))))
	return len(line), nil
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

// recovered turns a panic of a handler into a 500: a mistake in a list must not
// look like a node that is gone.
func (s *Server) recovered(w http.ResponseWriter, r *http.Request) {
	v := recover()
	switch v {
	case nil:
		return
	case http.ErrAbortHandler: // an answer that broke off must not look whole
		panic(v)
	}
	s.lg.Error("handler panicked", eventField("api.failed"), opField(r.Pattern), zap.Any("panic", v), zap.Stack("stack"))
	p, _ := toProblem(errPanic)
	s.writeProblem(w, r, p)
}

// debugRoutes serves the profiler, to administrators only.
func (s *Server) debugRoutes() {
	s.mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	s.mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	s.mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	s.mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	s.mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
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
