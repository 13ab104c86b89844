package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

const (
	headerETag      = "ETag"
	headerIfMatch   = "If-Match"
	headerGroup     = "Flotilla-Group"
	headerIndex     = "Flotilla-Index"
	headerStaleness = "Flotilla-Staleness-Ms"
)

// etagOf names the state of an object. What changes all the time without anybody
// changing the object (counters, contact times) is left out.
func etagOf(v any) string {
	switch o := v.(type) {
	case client.Node:
		o.Clients, o.LastContactMS, o.Sessions, o.LagEntries, o.DiskFreeBytes = 0, 0, nil, nil, nil
		v = o
	case client.Group:
		o.AppliedIndex, o.CommitIndex, o.Digest, o.DigestIndex, o.LogBytes, o.Snapshot = 0, 0, "", 0, 0, 0
		v = o
	case client.Session:
		o.InboxDepth, o.InboxBytes, o.Inflight, o.AwaitingPubrel, o.OldestMessageAt, o.Dropped = 0, 0, 0, nil, nil, nil
		v = o
	case client.Operation:
		o.Progress, o.Done, o.UpdatedAt = "", 0, time.Time{}
		v = o
	case client.APIKey:
		o.LastUsedAt = nil
		v = o
	case client.Share:
		o.Queue, o.QueueBytes, o.Assigned = 0, 0, 0
		o.Members = slices.Clone(o.Members)
		for i := range o.Members {
			o.Members[i].Assigned = 0
		}
		v = o
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(raw)
	return `"` + hex.EncodeToString(sum[:12]) + `"`
}

// precondition checks If-Match of a change against the object at its path: a
// DELETE of the object, or a POST of a verb below it. It is looked at just
// before the change and not in one step with it.
func (s *Server) precondition(r *http.Request) *problem {
	want := r.Header.Get(headerIfMatch)
	if want == "" {
		return nil
	}
	object := *r.URL
	if r.Method == http.MethodPost {
		raw := object.EscapedPath()
		object.RawPath = raw[:strings.LastIndexByte(raw, '/')]
		if path, err := url.PathUnescape(object.RawPath); err == nil {
			object.Path = path
		}
	}
	object.RawQuery = ""
	get := r.Clone(r.Context())
	get.Method, get.URL, get.Body, get.ContentLength = http.MethodGet, &object, http.NoBody, 0
	if _, pattern := s.mux.Handler(get); !strings.HasSuffix(pattern, "}") {
		p := newProblem(422, client.CodeInvalid, "If-Match is for single objects: there is none at this path")
		p.Errors = []client.ProblemDetail{{Location: "header.If-Match", Message: "leave it out"}}
		return p
	}
	probe := &statusProbe{header: http.Header{}}
	s.mux.ServeHTTP(probe, get)
	switch probe.status {
	case http.StatusOK, 0:
	case http.StatusNotFound:
		return nil // the change itself says so
	default:
		p := newProblem(503, client.CodeNotCaughtUp, "the object cannot be read now, so If-Match cannot be checked")
		p.RetryAfterMS = retryAfter.Milliseconds()
		return p
	}
	have := probe.header.Get(headerETag)
	for _, one := range strings.Split(want, ",") {
		if one = strings.TrimSpace(one); one == "*" || one == have {
			return nil
		}
	}
	p := newProblem(412, client.CodeVersionMismatch, "the object is not as it was when you looked: its ETag is "+have)
	p.Hints = []string{"read it again, and decide again"}
	return p
}
