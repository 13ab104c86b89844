package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

const problemType = "application/problem+json"

// retryAfter is what a client is told to wait when a group has no leader: about
// as long as an election takes.
const retryAfter = 2 * time.Second

// problem is a client.Problem in the form that huma sends as an error.
type problem struct{ client.Problem }

var (
	_ huma.StatusError       = (*problem)(nil)
	_ huma.ContentTypeFilter = (*problem)(nil)
	_ huma.HeadersError      = (*problem)(nil)
)

// GetStatus is the HTTP status.
func (p *problem) GetStatus() int { return p.Status }

// ContentType is the type of RFC 9457.
func (p *problem) ContentType(string) string { return problemType }

// GetHeaders tells when to try again.
func (p *problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.RetryAfterMS > 0 {
		h.Set("Retry-After", strconv.FormatInt((p.RetryAfterMS+999)/1000, 10))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="flotilla"`)
	}
	return h
}

// class is a line of the table from errors to problems.
type class struct {
	err    error
	status int
	code   string
	hints  []string
	retry  bool
}

// classes is the one table from a Node's errors to HTTP.
func classes() []class {
	return []class{
		{ErrNotFound, 404, client.CodeNotFound, nil, false},
		{ErrInvalid, 422, client.CodeInvalid, nil, false},
		{ErrConflict, 409, client.CodeConflict, nil, false},
		{ErrLimitExceeded, 429, client.CodeLimitExceeded, nil, true},
		{ErrNodeUnreachable, 502, client.CodeNodeUnreachable, []string{"ask another node, or look at /api/v1/status for who is down"}, false},
		{ErrNoLeader, 503, client.CodeNoLeader, []string{"look at /api/v1/status for groups without a leader", "lists can be read with consistency=stale"}, true},
		{ErrNotCaughtUp, 503, client.CodeNotCaughtUp, []string{"look at /readyz?verbose for what is missing"}, true},
		{ErrStorageFull, 507, client.CodeStorageFull, []string{"free disk space on the nodes of /api/v1/nodes with little disk_free_bytes"}, false},
		{ErrNotImplemented, 501, client.CodeNotImplemented, nil, false},
		{context.DeadlineExceeded, 503, client.CodeNoLeader, []string{"the cluster did not answer in time: look at /api/v1/status"}, true},
	}
}

// toProblem turns an error of a Node into what a client is told. Errors that
// are not in the table are internal: their text is for the log.
func toProblem(err error) (p *problem, internal bool) {
	if errors.As(err, &p) {
		return p, false
	}
	var guard *GuardError
	if errors.As(err, &guard) {
		return guard.problem(), false
	}
	var known *client.Problem
	if errors.As(err, &known) {
		return &problem{*known}, false
	}
	for _, c := range classes() {
		if !errors.Is(err, c.err) {
			continue
		}
		p := newProblem(c.status, c.code, err.Error())
		p.Hints = c.hints
		if c.retry {
			p.RetryAfterMS = retryAfter.Milliseconds()
		}
		return p, false
	}
	p = newProblem(500, client.CodeInternal, "the node failed to answer; its log says why")
	return p, true
}

func newProblem(status int, code, detail string) *problem {
	return &problem{client.Problem{
		Type: client.ProblemType(code), Title: http.StatusText(status), Status: status, Detail: detail, Code: code,
	}}
}

// codeOf names the problems that huma and net/http find by themselves.
func codeOf(status int) string {
	switch status {
	case 401:
		return client.CodeUnauthenticated
	case 403:
		return client.CodeForbidden
	case 404:
		return client.CodeNotFound
	case 405:
		return client.CodeMethodNotAllowed
	case 406:
		return client.CodeNotAcceptable
	case 413:
		return client.CodeTooLarge
	case 415:
		return client.CodeUnsupportedMedia
	case 400, 422:
		return client.CodeInvalid
	default:
		return client.CodeInternal
	}
}

// transform finishes every error body on its way out: huma's own become
// problems, and all learn the path and the node.
func (s *Server) transform(ctx huma.Context, _ string, body any) (any, error) {
	var p *problem
	switch e := body.(type) {
	case *problem:
		p = e
	case *huma.ErrorModel:
		p = newProblem(e.Status, codeOf(e.Status), e.Detail)
		for _, d := range e.Errors {
			p.Errors = append(p.Errors, client.ProblemDetail{Location: d.Location, Message: d.Message, Value: d.Value})
		}
	default:
		if fields := exchangeOf(ctx.Context()).fields; len(fields) > 0 {
			return selectFields(body, fields)
		}
		return body, nil
	}
	u := ctx.URL()
	p.Instance, p.Node = u.Path, s.opt.NodeID
	return &p.Problem, nil
}

// writeProblem answers outside of huma.
func (s *Server) writeProblem(w http.ResponseWriter, r *http.Request, p *problem) {
	p.Instance, p.Node = r.URL.Path, s.opt.NodeID
	h := w.Header()
	for k, v := range p.GetHeaders() {
		h[k] = slices.Clone(v)
	}
	h.Set("Content-Type", problemType)
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(p.Status)
	if err := json.NewEncoder(w).Encode(&p.Problem); err != nil {
		s.lg.Debug("answer not sent", errField(err))
	}
}
