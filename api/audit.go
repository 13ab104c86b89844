package api

import (
	"context"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

// Auditor keeps what callers changed.
type Auditor interface {
	// RecordAudit keeps an entry; it does not block. It gives it an id.
	RecordAudit(client.AuditEntry)
	// AuditLog lists the entries of all nodes that are up, newest first. Each node
	// keeps a bounded number of them in memory; the log of the process is for ever.
	AuditLog(context.Context, Query) (Page[client.AuditEntry], error)
}

// Results of audited requests.
const (
	auditOK      = "ok"
	auditRefused = "refused" // the request cannot be carried out: 4xx
	auditDenied  = "denied"  // the caller may not
	auditFailed  = "failed"
)

// audit writes a request to the audit log.
func (s *Server) audit(r *http.Request, row accessRow, c *caller, rec *recorder) {
	status := rec.status
	if status == 0 {
		status = http.StatusOK
	}
	result := auditOK
	switch {
	case status == http.StatusForbidden:
		result = auditDenied
	case status >= 500:
		result = auditFailed
	case status >= 400:
		result = auditRefused
	}
	operation := ""
	if to := rec.Header().Get("Location"); strings.HasPrefix(to, client.PathOperations+"/") {
		operation = path.Base(to)
	}
	s.keep(client.AuditEntry{
		At: time.Now().UTC(), Node: s.opt.NodeID, Actor: c.Actor, Role: c.Role.String(), Address: c.Address, Action: s.actions[row.pattern],
		Method: r.Method, Target: r.URL.RequestURI(), Operation: operation, Status: status, Result: result,
	})
}

// auditDenied writes a change that the caller may not make to the audit log.
func (s *Server) auditDenied(r *http.Request, row accessRow, c *caller, status int) {
	if changes(r.Method) || row.flags&(audited|keyed) != 0 {
		s.audit(r, row, c, &recorder{ResponseWriter: &statusProbe{header: http.Header{}}, status: status})
	}
}

func (s *Server) keep(e client.AuditEntry) {
	s.lg.Info("the API was asked for a change", eventField("api.audit"), zap.String("actor", e.Actor), zap.String("role", e.Role), zap.String("peer", e.Address),
		zap.String("action", e.Action), zap.String("method", e.Method), zap.String("target", e.Target), opField(e.Operation), zap.Int("status", e.Status), zap.String("result", e.Result))
	s.opt.Node.RecordAudit(e)
}

func (s *Server) auditRoutes(a huma.API) {
	answer(s, a, operation("list-audit", "/audit", "What was changed through the API, newest first; a bounded number in the memory of each node", 422),
		func(ctx context.Context, in *ListParams) (client.List[client.AuditEntry], error) {
			return list(ctx, "audit", in, s.opt.Node.AuditLog, nil)
		})
}
