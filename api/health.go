package api

import (
	"encoding/json"
	"net/http"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

// healthRoutes serves the probes. They are not behind the API's machinery: the
// less a probe needs, the more its answer means.
func (s *Server) healthRoutes() {
	for _, p := range []Probe{ProbeLive, ProbeReady, ProbeStarted} {
		s.mux.HandleFunc("GET /"+p.String(), s.probe(p))
		s.mux.HandleFunc("GET /"+p.String()+"/{check}", s.probe(p))
	}
}

// probe answers 200 if all checks hold, else 503. Details are shown for checks
// that fail, and for all with ?verbose.
func (s *Server) probe(p Probe) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		checks := s.opt.Node.Health(p)
		if name := r.PathValue("check"); name != "" {
			checks = only(checks, name)
			if checks == nil {
				s.writeProblem(w, r, newProblem(404, codeOf(404), "there is no check of this name: see /"+p.String()+"?verbose"))
				return
			}
		}
		body := client.Health{Status: "ok", Node: s.opt.NodeID, Checks: make([]client.Check, len(checks))}
		status := http.StatusOK
		_, verbose := r.URL.Query()["verbose"]
		for i, c := range checks {
			if !c.OK {
				status, body.Status = http.StatusServiceUnavailable, "failing"
			} else if !verbose {
				c.Detail = ""
			}
			body.Checks[i] = c
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		if err := json.NewEncoder(w).Encode(body); err != nil {
			s.lg.Debug("answer not sent", errField(err))
		}
	}
}

func only(checks []client.Check, name string) []client.Check {
	for _, c := range checks {
		if c.Name == name {
			return []client.Check{c}
		}
	}
	return nil
}
