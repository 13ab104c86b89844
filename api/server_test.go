package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve answers from a fake on a real port, since loopback is part of the rules.
func serve(t testing.TB, f *fakeNode) (url string) {
	t.Helper()
	reg := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "flotilla_probe_total", Help: "x"})
	reg.MustRegister(c)
	return serveWith(t, Options{Node: f, NodeID: "n1", Version: "0.1.0", Gatherer: reg})
}

func serveWith(t testing.TB, opt Options) string {
	t.Helper()
	s, err := NewServer(opt)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return "http://" + l.Addr().String()
}

func call(t testing.TB, method, url, body string, header ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp, b.Bytes()
}

// TestGolden pins the bodies that scripts use. FLOTILLA_GOLDEN=write rewrites.
func TestGolden(t *testing.T) {
	url := serve(t, newFake())
	for _, c := range []struct{ name, method, path, body string }{
		{"status", "GET", "/api/v1/status", ""},
		{"nodes", "GET", "/api/v1/nodes", ""},
		{"node", "GET", "/api/v1/nodes/n1", ""},
		{"groups", "GET", "/api/v1/groups?limit=1", ""},
		{"group", "GET", "/api/v1/groups/1", ""},
		{"clients", "GET", "/api/v1/clients", ""},
		{"client", "GET", "/api/v1/clients/dev%2F1", ""},
		{"sessions", "GET", "/api/v1/sessions", ""},
		{"session", "GET", "/api/v1/sessions/dev%2F1", ""},
		{"subscriptions", "GET", "/api/v1/subscriptions?client=dev/1&match=a/b", ""},
		{"retained", "GET", "/api/v1/retained?filter=%23", ""},
		{"retained_one", "GET", "/api/v1/retained/a%2Fb", ""},
		{"published", "POST", "/api/v1/messages", `{"topic":"a","payload":"x","qos":1}`},
		{"kick", "DELETE", "/api/v1/clients/dev%2F1?reason_code=149", ""},
		{"session_inbox", "GET", "/api/v1/sessions/dev%2F1/inbox?limit=2", ""},
		{"shares", "GET", "/api/v1/shares?name=g", ""},
		{"share", "GET", "/api/v1/shares/g", ""},
		{"retained_delete", "DELETE", "/api/v1/retained?filter=a%2F%23&dry_run=true", ""},
		{"retained_delete_none", "DELETE", "/api/v1/retained?filter=none", ""},
		{"alarms", "GET", "/api/v1/alarms", ""},
		{"problem_kick", "DELETE", "/api/v1/clients/nobody", ""},
		{"problem_kick_code", "DELETE", "/api/v1/clients/dev%2F1?reason_code=4", ""},
		{"problem_session_rm", "DELETE", "/api/v1/sessions/nobody", ""},
		{"problem_inbox", "GET", "/api/v1/sessions/nobody/inbox", ""},
		{"problem_share", "GET", "/api/v1/shares/nobody", ""},
		{"problem_shares", "GET", "/api/v1/shares/two", ""},
		{"problem_retained", "GET", "/api/v1/retained/nothing", ""},
		{"problem_retained_rm", "DELETE", "/api/v1/retained", ""},
		{"livez", "GET", "/livez", ""},
		{"readyz", "GET", "/readyz", ""},
		{"readyz_verbose", "GET", "/readyz?verbose", ""},
		{"readyz_check", "GET", "/readyz/listeners", ""},
		{"startupz", "GET", "/startupz", ""},
		{"problem_404_path", "GET", "/api/v1/nothing", ""},
		{"problem_404_thing", "GET", "/api/v1/nodes/n9", ""},
		{"problem_404_check", "GET", "/readyz/nothing", ""},
		{"problem_405", "DELETE", "/api/v1/status", ""},
		{"problem_limit", "GET", "/api/v1/sessions?limit=1001", ""},
		{"problem_cursor", "GET", "/api/v1/sessions?cursor=zzz", ""},
		{"problem_query", "GET", "/api/v1/sessions?limt=1", ""},
		{"problem_consistency", "GET", "/api/v1/sessions?consistency=maybe", ""},
		{"problem_body", "POST", "/api/v1/messages", `{"topic":"","qos":3,"colour":"red"}`},
		{"problem_json", "POST", "/api/v1/messages", `{"topic"`},
		{"problem_payload", "POST", "/api/v1/messages", `{"topic":"a","payload":"x","payload_base64":"eA=="}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, raw := call(t, c.method, url+c.path, c.body, "Content-Type", "application/json")
			var pretty bytes.Buffer
			if err := json.Indent(&pretty, raw, "", "  "); err != nil {
				t.Fatalf("body is not JSON: %v: %s", err, raw)
			}
			got := fmt.Sprintf("%s %s\n%d %s\n%s", c.method, c.path, resp.StatusCode, resp.Header.Get("Content-Type"), pretty.Bytes())
			golden(t, c.name, got)
			if resp.StatusCode >= 400 && !strings.HasPrefix(c.path, "/readyz") || strings.HasPrefix(c.name, "problem") {
				checkProblem(t, resp, raw)
			}
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", "golden", name+".txt")
	if os.Getenv("FLOTILLA_GOLDEN") == "write" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("answer differs (-want +got):\n%s", diff)
	}
}

func checkProblem(t *testing.T, resp *http.Response, raw []byte) {
	t.Helper()
	var p client.Problem
	if err := json.Unmarshal(raw, &p); err != nil {
		t.Fatalf("problem: %v: %s", err, raw)
	}
	if got := resp.Header.Get("Content-Type"); got != problemType {
		t.Errorf("content type %q, want %q", got, problemType)
	}
	if p.Status != resp.StatusCode || p.Type != client.ProblemType(p.Code) || p.Node != "n1" || p.Instance == "" || p.Title == "" {
		t.Errorf("incomplete problem: %s", raw)
	}
	if bytes.Contains(raw, []byte("$schema")) {
		t.Errorf("body has a $schema member: %s", raw)
	}
}

func TestErrorsBecomeProblems(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		code   string
		retry  bool
	}{
		{fmt.Errorf("session x: %w", ErrNotFound), 404, client.CodeNotFound, false},
		{ErrInvalid, 422, client.CodeInvalid, false},
		{ErrConflict, 409, client.CodeConflict, false},
		{ErrLimitExceeded, 429, client.CodeLimitExceeded, true},
		{ErrNodeUnreachable, 502, client.CodeNodeUnreachable, false},
		{fmt.Errorf("group 3: %w", ErrNoLeader), 503, client.CodeNoLeader, true},
		{ErrNotCaughtUp, 503, client.CodeNotCaughtUp, true},
		{ErrStorageFull, 507, client.CodeStorageFull, false},
		{ErrNotImplemented, 501, client.CodeNotImplemented, false},
		{context.DeadlineExceeded, 503, client.CodeNoLeader, true},
		{&client.Problem{Status: 409, Code: client.CodeQuorumAtRisk, Type: client.ProblemType(client.CodeQuorumAtRisk), Title: "Conflict"}, 409, client.CodeQuorumAtRisk, false},
		{errors.New("disk /dev/sda7 says no"), 500, client.CodeInternal, false},
	} {
		t.Run(c.code, func(t *testing.T) {
			f := newFake()
			f.err = c.err
			core, logs := observer.New(zap.InfoLevel)
			url := serveWith(t, Options{Node: f, NodeID: "n1", Logger: zap.New(core)})
			resp, raw := call(t, "GET", url+"/api/v1/sessions", "")
			checkProblem(t, resp, raw)
			var p client.Problem
			if err := json.Unmarshal(raw, &p); err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != c.status || p.Code != c.code {
				t.Errorf("got %d %s, want %d %s", resp.StatusCode, p.Code, c.status, c.code)
			}
			if (resp.Header.Get("Retry-After") != "") != c.retry || (p.RetryAfterMS > 0) != c.retry {
				t.Errorf("Retry-After %q, retry_after_ms %d, want any: %v", resp.Header.Get("Retry-After"), p.RetryAfterMS, c.retry)
			}
			internal := c.code == client.CodeInternal
			if strings.Contains(string(raw), "sda7") {
				t.Errorf("the text of an internal error leaks: %s", raw)
			}
			if (logs.FilterField(zap.String("event", "api.failed")).Len() == 1) != internal {
				t.Errorf("log has %d lines, want one only for internal errors", logs.Len())
			}
		})
	}
}

// TestStrangersShareOneMessage: whoever makes net/http complain, from whatever address, does so under one message, which the
// limit of lines counts.
func TestStrangersShareOneMessage(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	s, err := NewServer(Options{Node: newFake(), NodeID: "n1", Logger: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{"192.0.2.1:1", "192.0.2.2:2"} {
		s.http.ErrorLog.Printf("http: TLS handshake error from %s: EOF", from)
	}
	all := logs.All()
	if len(all) != 2 || all[0].Message != all[1].Message || !strings.Contains(all[1].ContextMap()["err"].(string), "192.0.2.2:2") {
		t.Errorf("%+v", all)
	}
}

func TestCursorJoinsPages(t *testing.T) {
	f := newFake()
	f.many(2500)
	url := serve(t, f)
	c, err := client.New(client.Options{Endpoints: []string{url}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdle)
	for _, limit := range []int{0, 1, 999, 1000, 1001, 2500, 9000} {
		list, err := c.All(t.Context(), client.PathSessions, nil, limit)
		if err != nil {
			t.Fatal(err)
		}
		got, err := client.Items[client.Session](list)
		if err != nil {
			t.Fatal(err)
		}
		want := f.sessions
		if limit > 0 {
			want = want[:min(limit, len(want))]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("limit %d: %s", limit, diff)
		}
	}
}

func TestCursorOfAnotherListIsRefused(t *testing.T) {
	for _, cursor := range []string{encodeCursor("sessions", "a"), "", "%%%", encodeCursor("nodes", "-1"), encodeCursor("nodes", "x")} {
		_, err := slicePage("nodes", []int{1, 2}, &PageParams{Limit: 1, Cursor: cursor})
		if (err == nil) != (cursor == "") {
			t.Errorf("cursor %q: error %v", cursor, err)
		}
	}
}

func TestQueryReachesTheNode(t *testing.T) {
	f := newFake()
	url := serve(t, f)
	call(t, "GET", url+"/api/v1/subscriptions?client=c&filter=f%2F%2B&match=m&limit=7&consistency=stale&cursor="+encodeCursor("subscriptions", "k"), "")
	call(t, "GET", url+"/api/v1/sessions/a%2Fb%25c", "")
	want := []Query{
		{Client: "c", Filter: "f/+", Match: "m", Limit: 7, Stale: true, After: "k"},
		{ID: "a/b%c", Limit: 1},
	}
	if diff := cmp.Diff(want, f.asked); diff != "" {
		t.Errorf("queries (-want +got):\n%s", diff)
	}
}

func TestChangesReachTheNode(t *testing.T) {
	f := newFake()
	url := serve(t, f)
	call(t, "DELETE", url+"/api/v1/clients/dev%2F1", "")
	call(t, "DELETE", url+"/api/v1/clients/dev%2F1?reason_code=156", "")
	if diff := cmp.Diff([]byte{0x98, 0x9c}, f.kicked); diff != "" {
		t.Errorf("reason codes (-want +got):\n%s", diff)
	}
	if resp, raw := call(t, "DELETE", url+"/api/v1/sessions/dev%2F1", ""); resp.StatusCode != 204 || len(raw) != 0 {
		t.Errorf("end of a session: %d %s", resp.StatusCode, raw)
	}
	for _, path := range []string{"clients/dev%2F1", "sessions/dev%2F1", "retained?filter=%23"} {
		resp, raw := call(t, "DELETE", url+"/api/v1/"+path, "", "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site")
		checkProblem(t, resp, raw)
		if resp.StatusCode != 403 {
			t.Errorf("%s from a web page: %d", path, resp.StatusCode)
		}
	}
}

func TestOnLoopbackOnlyAddressesAreHosts(t *testing.T) {
	url := serve(t, newFake())
	for host, want := range map[string]int{
		"127.0.0.1:8080": 200, "localhost": 200, "[::1]:80": 200, "evil.example": 403, "evil.example:8080": 403,
	} {
		if resp, raw := call(t, "GET", url+"/api/v1/status", "", "Host", host); resp.StatusCode != want {
			t.Errorf("host %s: %d, want %d: %s", host, resp.StatusCode, want, raw)
		}
	}
}

func TestWebPagesChangeNothing(t *testing.T) {
	f := newFake()
	url := serve(t, f)
	resp, raw := call(t, "POST", url+"/api/v1/messages", `{"topic":"a"}`, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site", "Content-Type", "application/json")
	checkProblem(t, resp, raw)
	if resp.StatusCode != 403 || len(f.published) != 0 {
		t.Errorf("status %d, published %v", resp.StatusCode, f.published)
	}
}

func TestMetricsOpenAPIAndProfiler(t *testing.T) {
	url := serve(t, newFake())
	if _, raw := call(t, "GET", url+"/metrics", ""); !bytes.Contains(raw, []byte("flotilla_probe_total 0")) {
		t.Errorf("metrics: %s", raw)
	}
	resp, raw := call(t, "GET", url+"/openapi.json", "")
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			Responses map[string]struct{ Content map[string]any }
		}
		Components struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") || resp.Header.Get("Content-Type") != "application/openapi+json" || len(doc.Paths) < 29 {
		t.Errorf("document %s, type %s, %d paths", doc.OpenAPI, resp.Header.Get("Content-Type"), len(doc.Paths))
	}
	for path, verbs := range doc.Paths {
		for verb, op := range verbs {
			for status, r := range op.Responses {
				if _, ok := r.Content[problemType]; !ok && status >= "4" {
					t.Errorf("%s %s %s is not documented as a problem", verb, path, status)
				}
			}
		}
	}
	if _, ok := doc.Components.Schemas["Problem"]; !ok || bytes.Contains(raw, []byte("ErrorModel")) {
		t.Error("the document does not describe problems as they are sent")
	}
	if resp, _ := call(t, "GET", url+"/debug/pprof/", ""); resp.StatusCode != 200 {
		t.Errorf("profiler on loopback: %d", resp.StatusCode)
	}
	s, err := NewServer(Options{Node: newFake(), NodeID: "n1", Access: Access{AllowAnonymous: true}})
	if err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	outside := context.WithValue(t.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)}))
	s.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/debug/pprof/", nil).WithContext(outside))
	if rec.Code != 403 {
		t.Errorf("profiler beyond loopback: %d", rec.Code)
	}
}

type panickyNode struct{ *fakeNode }

func (panickyNode) Status(context.Context) (client.Status, error) { panic("a mistake") }

func TestPanicIsAProblem(t *testing.T) {
	url := serveWith(t, Options{Node: panickyNode{newFake()}, NodeID: "n1"})
	resp, raw := call(t, "GET", url+"/api/v1/status", "")
	checkProblem(t, resp, raw)
	if resp.StatusCode != 500 || bytes.Contains(raw, []byte("mistake")) {
		t.Errorf("got %d %s", resp.StatusCode, raw)
	}
}
