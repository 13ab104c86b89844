package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

// key makes a key at a fake, and returns its secret.
func (f *fakeNode) key(t testing.TB, name, role string, scopes ...string) string {
	t.Helper()
	k, err := f.CreateAPIKey(t.Context(), client.NewAPIKey{Name: name, Role: role, Scopes: scopes}, "test")
	if err != nil {
		t.Fatal(err)
	}
	return k.Key
}

// TestEveryRouteSaysWhoMayCallIt walks what is registered: a route without a row, and a row without a route.
func TestEveryRouteSaysWhoMayCallIt(t *testing.T) {
	s, err := NewServer(Options{Node: newFake(), NodeID: "n1", Gatherer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	if left := unused(s.mux.patterns); len(left) > 0 {
		t.Errorf("rows of no route: %q", left)
	}
	for _, p := range s.mux.patterns {
		row := s.rows[p]
		method, path, _ := strings.Cut(p, " ")
		open := slices.Contains([]string{"livez", "readyz", "startupz"}, strings.Split(path, "/")[1])
		switch {
		case (row.role == RoleNone) != open:
			t.Errorf("%s needs the role %s", p, row.role)
		case changes(method) && row.role < RoleOperator:
			t.Errorf("%s changes something and needs the role %s only", p, row.role)
		case strings.HasPrefix(path, "/debug") && (row.role != RoleAdmin || row.flags&keyed == 0):
			t.Errorf("%s is not for administrators alone", p)
		case strings.HasPrefix(path, base) && s.actions[p] == "":
			t.Errorf("%s has no name in the audit log", p)
		}
	}
	if _, err := accessRows([]string{"GET /new"}); err == nil || !strings.Contains(err.Error(), "GET /new") {
		t.Errorf("a route without a row: %v", err)
	}
}

// TestRolesAtEveryRoute calls each route as everybody: who lacks the role is refused, and nobody else is.
func TestRolesAtEveryRoute(t *testing.T) {
	f := newFake()
	keys := map[Role]string{
		RoleAdmin: f.key(t, "root", "admin"), RoleOperator: f.key(t, "op", "operator"), RoleViewer: f.key(t, "look", "viewer"),
		RoleMetrics: f.key(t, "prom", "admin", client.ScopeMetrics),
	}
	s, err := NewServer(Options{Node: f, NodeID: "n1", Gatherer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range accessTable() {
		method, path, _ := strings.Cut(row.pattern, " ")
		if strings.Contains(path, "/profile") || strings.Contains(path, "/trace") || strings.HasSuffix(path, "/events") {
			continue // they take seconds, or for ever
		}
		path = strings.NewReplacer("{id}", "n3", "{with}", "n2", "{check}", "listeners", "{name}", "x", "{node}", "n1").Replace(path)
		for role := RoleNone; role <= RoleAdmin; role++ {
			ctx := context.WithValue(t.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}))
			r := httptest.NewRequest(method, path, nil).WithContext(ctx)
			r.Host = "localhost"
			if role != RoleNone {
				r.Header.Set("Authorization", "Bearer "+keys[role])
			}
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, r)
			switch {
			case role >= row.role && (w.Code == 401 || w.Code == 403):
				t.Errorf("%s as %s: %d %s", row.pattern, role, w.Code, w.Body)
			case role < row.role && role == RoleNone && (w.Code != 401 || w.Header().Get("WWW-Authenticate") == ""):
				t.Errorf("%s without a key: %d", row.pattern, w.Code)
			case role < row.role && role != RoleNone && w.Code != 403:
				t.Errorf("%s as %s: %d, want 403", row.pattern, role, w.Code)
			}
			if w.Code == 401 || w.Code == 403 {
				checkProblem(t, w.Result(), w.Body.Bytes())
			}
		}
	}
}

// TestKeysThatAreNotRight: whatever is wrong, the answer is the same, and the log says what it was.
func TestKeysThatAreNotRight(t *testing.T) {
	f := newFake()
	root := f.key(t, "root", "admin")
	old := f.key(t, "old", "admin")
	past := time.Now().Add(-time.Second)
	f.keys[1].ExpiresAt = &past
	core, logs := observer.New(zap.InfoLevel)
	reg := prometheus.NewRegistry()
	url := serveWith(t, Options{Node: f, NodeID: "n1", Logger: zap.New(core), Registerer: reg})
	var bodies []string
	for _, header := range []string{
		"", "Bearer", "Bearer nonsense", "Basic " + root, "Bearer " + root[:len(root)-1] + "X", "Bearer " + old, "Bearer flk_00000000000f_" + strings.Repeat("x", 43),
	} {
		resp, raw := call(t, "GET", url+"/api/v1/status", "", "Authorization", header)
		checkProblem(t, resp, raw)
		if resp.StatusCode != 401 || resp.Header.Get("WWW-Authenticate") != `Bearer realm="flotilla"` {
			t.Errorf("%q: %d %s", header, resp.StatusCode, raw)
		}
		bodies = append(bodies, string(raw))
	}
	if slices.Sort(bodies); bodies[0] != bodies[len(bodies)-1] {
		t.Errorf("the answers tell what was wrong: %q", bodies)
	}
	if n := logs.FilterField(zap.String("event", "auth.failed")).Len(); n != 6 {
		t.Errorf("%d lines of auth.failed, want 6", n)
	}
	for _, l := range logs.All() {
		if text := fmt.Sprint(l.ContextMap()); strings.Contains(text, root[20:]) {
			t.Errorf("the log has a secret: %s", text)
		}
	}
	for range failuresBurst {
		call(t, "GET", url+"/api/v1/status", "", "Authorization", "Bearer x")
	}
	resp, raw := call(t, "GET", url+"/api/v1/status", "", "Authorization", "Bearer x")
	checkProblem(t, resp, raw)
	if resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("attempts without end: %d %s", resp.StatusCode, raw)
	}
	if resp, raw := call(t, "GET", url+"/api/v1/status", "", "Authorization", "Bearer "+root); resp.StatusCode != 200 {
		t.Errorf("the right key from an address with failed attempts: %d %s", resp.StatusCode, raw)
	}
}

// TestLoopbackIsOpenUntilThereIsAKey: nothing configured, then the first key, then none again.
func TestLoopbackIsOpenUntilThereIsAKey(t *testing.T) {
	f := newFake()
	url := serve(t, f)
	status := func(header ...string) int {
		resp, _ := call(t, "GET", url+"/api/v1/status", "", header...)
		return resp.StatusCode
	}
	if got := status(); got != 200 {
		t.Fatalf("zero configuration: %d", got)
	}
	resp, raw := call(t, "POST", url+"/api/v1/apikeys", `{"name":"root","role":"admin"}`, "Content-Type", "application/json")
	var k client.APIKey
	if err := json.Unmarshal(raw, &k); err != nil || resp.StatusCode != 200 || k.Key == "" || k.CreatedBy != "anonymous" {
		t.Fatalf("the first key: %d %s", resp.StatusCode, raw)
	}
	auth := []string{"Authorization", "Bearer " + k.Key}
	if got := status(); got != 401 {
		t.Errorf("without a key once there is one: %d", got)
	}
	if got := status(auth...); got != 200 {
		t.Errorf("with the key: %d", got)
	}
	_, raw = call(t, "GET", url+"/api/v1/apikeys/root", "", auth...)
	if bytes.Contains(raw, []byte(k.Key)) || !bytes.Contains(raw, []byte(`"last_used_at":"2`)) {
		t.Errorf("the key as it is shown: %s", raw)
	}
	for _, probe := range []string{"/livez", "/readyz", "/startupz"} {
		if resp, _ := call(t, "GET", url+probe, ""); resp.StatusCode == 401 {
			t.Errorf("%s asks for a key", probe)
		}
	}
	if resp, raw := call(t, "DELETE", url+"/api/v1/apikeys/root", "", auth...); resp.StatusCode >= 300 {
		t.Fatalf("take the last key back: %d %s", resp.StatusCode, raw)
	}
	if got := status(); got != 200 {
		t.Errorf("after the last key: %d", got)
	}
	f.mu.Lock()
	f.unsure = true // a node that has just started and has not heard of the cluster
	f.mu.Unlock()
	if got := status(); got != 401 {
		t.Errorf("while keys cannot be ruled out: %d", got)
	}
}

// TestAccessThatIsConfigured: admin.auth closes loopback, too; the bootstrap key opens, allow_anonymous opens only what nothing closes.
func TestAccessThatIsConfigured(t *testing.T) {
	first, err := client.NewKey("bootstrap")
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(first))
	loop, outside := net.IPv4(127, 0, 0, 1), net.IPv4(10, 0, 0, 1)
	boot := func() []byte { return sum[:] }
	for i, c := range []struct {
		access Access
		at     net.IP
		key    string
		path   string
		want   int
	}{
		{Access{}, loop, "", "/api/v1/status", 200},
		{Access{}, outside, "", "/api/v1/status", 401},
		{Access{AllowAnonymous: true}, outside, "", "/api/v1/status", 200},
		{Access{AllowAnonymous: true}, outside, "", "/debug/pprof/cmdline", 403},
		{Access{}, loop, "", "/debug/pprof/cmdline", 200},
		{Access{APIKeys: true, AllowAnonymous: true}, loop, "", "/api/v1/status", 401},
		{Access{APIKeys: true}, loop, first, "/api/v1/status", 401},
		{Access{APIKeys: true, Bootstrap: boot}, outside, first, "/api/v1/apikeys", 200},
		{Access{Bootstrap: boot, AllowAnonymous: true}, loop, "", "/api/v1/status", 401},
		{Access{Certificates: true}, loop, "", "/api/v1/status", 401},
		{Access{APIKeys: true}, outside, "", "/metrics", 401},
		{Access{APIKeys: true, OpenMetrics: true}, outside, "", "/metrics", 200},
		{Access{APIKeys: true}, outside, "", "/nothing", 401},
		{Access{APIKeys: true}, outside, "", "/livez", 200},
	} {
		s, err := NewServer(Options{Node: newFake(), NodeID: "n1", Gatherer: prometheus.NewRegistry(), Access: c.access})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("GET", c.path, nil).WithContext(context.WithValue(t.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: c.at})))
		r.Host = "127.0.0.1"
		if c.key != "" {
			r.Header.Set("Authorization", "Bearer "+c.key)
		}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("case %d: %d, want %d: %s", i, w.Code, c.want, w.Body)
		}
	}
}

// TestRoleOfACertificate: the unit of the subject names exactly one role.
func TestRoleOfACertificate(t *testing.T) {
	now := time.Now()
	g := &gate{now: time.Now}
	for i, c := range []struct {
		units []string
		after time.Time
		role  Role
		ok    bool
	}{
		{[]string{"Plant 7", "flotilla-operator"}, now.Add(time.Hour), RoleOperator, true},
		{[]string{"flotilla-metrics"}, now.Add(time.Hour), RoleMetrics, true},
		{[]string{"flotilla-root"}, now.Add(time.Hour), RoleNone, true},
		{nil, now.Add(time.Hour), RoleNone, true},
		{[]string{"flotilla-viewer", "flotilla-admin"}, now.Add(time.Hour), RoleNone, false},
		{[]string{"flotilla-admin"}, now.Add(-time.Hour), RoleNone, false},
	} {
		cert := &x509.Certificate{Subject: pkix.Name{CommonName: "ann", OrganizationalUnit: c.units}, NotBefore: now.Add(-2 * time.Hour), NotAfter: c.after}
		got, why := g.byCertificate(cert)
		if (why == "") != c.ok || c.ok && (got.Role != c.role || got.Actor != "cert:ann") {
			t.Errorf("case %d: %+v, %q", i, got, why)
		}
	}
}

// TestAudit: what was changed, by whom, and what was refused; reads and probes are not in it.
func TestAudit(t *testing.T) {
	f := newFake()
	root, look := f.key(t, "root", "admin"), f.key(t, "look", "viewer")
	core, logs := observer.New(zap.InfoLevel)
	url := serveWith(t, Options{Node: f, NodeID: "n1", Logger: zap.New(core)})
	auth := []string{"Authorization", "Bearer " + root}
	call(t, "GET", url+"/api/v1/status", "", auth...)
	call(t, "POST", url+"/api/v1/nodes/n3/drain", "", auth...)
	call(t, "DELETE", url+"/api/v1/clients/nobody", "", auth...)
	call(t, "DELETE", url+"/api/v1/nodes/n1", "", auth...)
	call(t, "DELETE", url+"/api/v1/clients/dev%2F1", "", "Authorization", "Bearer "+look)
	_, raw := call(t, "GET", url+"/api/v1/audit?limit=10&fields=actor,action,result,status,operation,target", "", auth...)
	want := `{"items":[` +
		`{"actor":"key:look","action":"kick-client","result":"denied","status":403,"target":"/api/v1/clients/dev%2F1"},` +
		`{"actor":"key:root","action":"remove-node","result":"refused","status":409,"target":"/api/v1/nodes/n1"},` +
		`{"actor":"key:root","action":"kick-client","result":"refused","status":404,"target":"/api/v1/clients/nobody"},` +
		`{"actor":"key:root","action":"drain-node","result":"ok","status":202,"operation":"op-1","target":"/api/v1/nodes/n3/drain"}],"meta":{"limit":10}}`
	if got := strings.TrimSpace(string(raw)); got != want {
		t.Errorf("audit log\n got %s\nwant %s", got, want)
	}
	if n := logs.FilterField(zap.String("event", "api.audit")).Len(); n != 4 {
		t.Errorf("%d lines of api.audit, want 4", n)
	}
	if len(f.kicked) != 1 { // nobody, who is not connected
		t.Errorf("a viewer kicked somebody: %v", f.kicked)
	}
}
