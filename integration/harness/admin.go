package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// adminTimeout bounds one request: an admin API that hangs is a defect of its own.
const adminTimeout = 5 * time.Second

// Status is what the suites need of GET /api/v1/status.
type Status struct {
	ClusterID string   `json:"cluster_id"`
	Healthy   bool     `json:"healthy"`
	Reasons   []string `json:"reasons"`
	Nodes     []struct {
		ID      string `json:"id"`
		State   string `json:"state"`
		Clients int    `json:"clients"`
	} `json:"nodes"`
	Groups []Group `json:"groups"`
}

// Group is one Raft group as a node sees it; the figures are those of its own replica where Local is set.
type Group struct {
	ID           uint32   `json:"id"`
	Kind         string   `json:"kind"`
	Leader       *string  `json:"leader"`
	Replicas     []string `json:"replicas"`
	Term         uint64   `json:"term"`
	AppliedIndex uint64   `json:"applied_index"`
	CommitIndex  uint64   `json:"commit_index"`
	Local        bool     `json:"local"`
	Digest       string   `json:"digest"`
	DigestIndex  uint64   `json:"digest_index"`
	Snapshot     uint64   `json:"snapshot_index"`
}

// Session is what the suites need of a session.
type Session struct {
	ClientID      string `json:"client_id"`
	Connected     bool   `json:"connected"`
	Owner         string `json:"owner"`
	Epoch         uint64 `json:"epoch"`
	Shard         uint32 `json:"shard"`
	Subscriptions int    `json:"subscriptions"`
	InboxDepth    int64  `json:"inbox_depth"`
	Inflight      int64  `json:"inflight"`
}

// HTTPError is an answer with another status than 2xx.
type HTTPError struct {
	Method, URL string
	Status      int
	Body        []byte
}

func (e *HTTPError) Error() string {
	return fmt.Sprintf("%s %s: %d %s: %s", e.Method, e.URL, e.Status, http.StatusText(e.Status), bytes.TrimSpace(e.Body))
}

// httpClient opens a connection per request: kept ones would lead to dead processes and hold goroutines.
func httpClient() *http.Client {
	return &http.Client{Timeout: adminTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
}

// Do sends a request to the admin address and decodes a JSON answer into out, if out is not nil.
func (n *Node) Do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	target := "http://" + n.AdminAddr() + path
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := httpClient().Do(req)
	if err != nil {
		return fmt.Errorf("node %s: %w", n.ID, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("node %s: read answer of %s: %w", n.ID, path, err)
	}
	if res.StatusCode/100 != 2 {
		return &HTTPError{Method: method, URL: target, Status: res.StatusCode, Body: b}
	}
	if out == nil {
		return nil
	}
	if raw, ok := out.(*rawText); ok {
		*raw = b
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("node %s: decode answer of %s: %w", n.ID, path, err)
	}
	return nil
}

// Readyz returns nil if the node says that it is ready.
func (n *Node) Readyz(ctx context.Context) error {
	return n.Do(ctx, http.MethodGet, "/readyz", nil, nil)
}

// Status asks the node for the state of the cluster.
func (n *Node) Status(ctx context.Context) (Status, error) {
	var s Status
	err := n.Do(ctx, http.MethodGet, "/api/v1/status", nil, &s)
	return s, err
}

// Groups lists the groups with the figures of this node's own replicas.
func (n *Node) Groups(ctx context.Context) ([]Group, error) {
	var list struct{ Items []Group }
	err := n.Do(ctx, http.MethodGet, "/api/v1/groups?consistency=stale&limit=1000", nil, &list)
	return list.Items, err
}

// Session asks for one session.
func (n *Node) Session(ctx context.Context, clientID string) (Session, error) {
	var s Session
	err := n.Do(ctx, http.MethodGet, "/api/v1/sessions/"+url.PathEscape(clientID), nil, &s)
	return s, err
}
