package api

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

// TestIdempotencyKey: a request that is sent again is not carried out again; another request, or another caller, is.
func TestIdempotencyKey(t *testing.T) {
	f := newFake()
	url := serve(t, f)
	post := func(key, body string) (*http.Response, []byte) {
		return call(t, "POST", url+"/api/v1/messages", body, "Content-Type", "application/json", headerIdempotency, key)
	}
	_, first := post("k1", `{"topic":"a"}`)
	resp, again := post("k1", `{"topic":"a"}`)
	if string(first) != string(again) || resp.Header.Get(headerReplayed) != "true" || resp.Header.Get("Content-Type") != "application/json" || len(f.published) != 1 {
		t.Errorf("again: %d %s, published %d times", resp.StatusCode, again, len(f.published))
	}
	resp, raw := post("k1", `{"topic":"b"}`)
	checkProblem(t, resp, raw)
	if resp.StatusCode != 422 || len(f.published) != 1 {
		t.Errorf("another request with the key: %d", resp.StatusCode)
	}
	if post("k2", `{"topic":"a"}`); len(f.published) != 2 {
		t.Errorf("another key: published %d times", len(f.published))
	}
	f.err = ErrNoLeader
	if resp, _ := post("k3", `{"topic":"a"}`); resp.StatusCode != 503 {
		t.Fatalf("without a leader: %d", resp.StatusCode)
	}
	f.err = nil
	if resp, _ := post("k3", `{"topic":"a"}`); resp.StatusCode != 200 || resp.Header.Get(headerReplayed) != "" {
		t.Errorf("after a failure: %d, the failure is kept", resp.StatusCode)
	}
	if resp, raw := post(strings.Repeat("k", 256), `{"topic":"a"}`); resp.StatusCode != 422 {
		t.Errorf("a long key: %d %s", resp.StatusCode, raw)
	}
}

// TestAnswersAreForgotten: an hour later, and when there are too many.
func TestAnswersAreForgotten(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	a := newAnswers(func() time.Time { return now })
	sum := sha256.Sum256(nil)
	begin := func(key string) bool { _, first := a.begin(onceID{"x", key}, sum); return first }
	if !begin("k") || begin("k") {
		t.Fatal("a key is known once it was seen")
	}
	now = now.Add(idempotencyTTL + time.Second)
	if !begin("k") {
		t.Error("a key is known after an hour")
	}
	for i := range idempotencyMost + 10 {
		begin(fmt.Sprint(i))
	}
	if len(a.byID) > idempotencyMost || len(a.queue) > idempotencyMost {
		t.Errorf("%d answers are kept", len(a.byID))
	}
}

// TestIfMatch: a change of an object that was seen otherwise is refused.
func TestIfMatch(t *testing.T) {
	f := newFake()
	url := serve(t, f)
	resp, _ := call(t, "GET", url+"/api/v1/clients/dev%2F1", "")
	tag := resp.Header.Get(headerETag)
	if tag == "" {
		t.Fatal("no ETag")
	}
	resp, raw := call(t, "DELETE", url+"/api/v1/clients/dev%2F1", "", headerIfMatch, `"old", "older"`)
	checkProblem(t, resp, raw)
	if resp.StatusCode != 412 || !strings.Contains(string(raw), client.CodeVersionMismatch) || len(f.kicked) != 0 {
		t.Errorf("another ETag: %d %s", resp.StatusCode, raw)
	}
	if resp, raw := call(t, "DELETE", url+"/api/v1/clients/dev%2F1", "", headerIfMatch, `"old", `+tag); resp.StatusCode != 200 || len(f.kicked) != 1 {
		t.Errorf("its ETag: %d %s", resp.StatusCode, raw)
	}
	if resp, _ := call(t, "POST", url+"/api/v1/nodes/n2/drain", "", headerIfMatch, `"old"`); resp.StatusCode != 412 {
		t.Errorf("a verb of an object: %d", resp.StatusCode)
	}
	if resp, _ := call(t, "POST", url+"/api/v1/messages", `{"topic":"a"}`, headerIfMatch, tag, "Content-Type", "application/json"); resp.StatusCode != 422 {
		t.Errorf("where there is no object: %d", resp.StatusCode)
	}
	before, _ := call(t, "GET", url+"/api/v1/nodes/n1", "")
	f.status.Nodes[0].Clients++
	if after, _ := call(t, "GET", url+"/api/v1/nodes/n1", ""); after.Header.Get(headerETag) != before.Header.Get(headerETag) {
		t.Error("the ETag of a node changes with a counter")
	}
}

// TestHeadersOfReads: where an object lives, as of which index, and how old what a node knows alone may be.
func TestHeadersOfReads(t *testing.T) {
	f := newFake()
	url := serve(t, f)
	resp, _ := call(t, "GET", url+"/api/v1/sessions/dev%2F1?consistency=stale", "")
	if g, i, s := resp.Header.Get(headerGroup), resp.Header.Get(headerIndex), resp.Header.Get(headerStaleness); g != "2" || i != "77" || s != "1500" {
		t.Errorf("group %q, index %q, staleness %q", g, i, s)
	}
	resp, _ = call(t, "GET", url+"/api/v1/groups/1", "")
	if g, i, s := resp.Header.Get(headerGroup), resp.Header.Get(headerIndex), resp.Header.Get(headerStaleness); g != "1" || i != "" || s != "" {
		t.Errorf("group without a replica here: %q, %q, %q", g, i, s)
	}
	f.alone = true
	for path, want := range map[string]int{"operations": 503, "operations?consistency=stale": 200, "operations/op-1": 503, "join-tokens": 503, "apikeys?consistency=stale": 200, "apikeys": 503, "status": 200} {
		if resp, raw := call(t, "GET", url+"/api/v1/"+path, ""); resp.StatusCode != want {
			t.Errorf("%s without a majority: %d %s", path, resp.StatusCode, raw)
		}
	}
}

// TestFields: only what was asked for, in that order; a name that nothing has is refused.
func TestFields(t *testing.T) {
	url := serve(t, newFake())
	_, raw := call(t, "GET", url+"/api/v1/nodes?fields=state,id", "")
	var list struct{ Items []map[string]any }
	if err := json.Unmarshal(raw, &list); err != nil || len(list.Items) != 2 || len(list.Items[0]) != 2 || !strings.HasPrefix(string(raw), `{"items":[{"state":"ready","id":"n1"}`) {
		t.Errorf("a list: %s", raw)
	}
	if _, raw := call(t, "GET", url+"/api/v1/sessions/dev%2F1?fields=epoch", ""); strings.TrimSpace(string(raw)) != `{"epoch":3}` {
		t.Errorf("an object: %s", raw)
	}
	if _, raw := call(t, "GET", url+"/api/v1/retained/a%2Fb?fields=topic,payload_base64", ""); strings.TrimSpace(string(raw)) != `{"topic":"a/b","payload_base64":"MjEuNQ=="}` {
		t.Errorf("an object that holds another: %s", raw)
	}
	resp, raw := call(t, "GET", url+"/api/v1/nodes?fields=id,colour", "")
	checkProblem(t, resp, raw)
	if resp.StatusCode != 422 || !strings.Contains(string(raw), "colour") {
		t.Errorf("an unknown field: %d %s", resp.StatusCode, raw)
	}
}

// TestEveryErrorIsAProblem: whoever finds the error, the mux, huma, the gate or the handler.
func TestEveryErrorIsAProblem(t *testing.T) {
	f := newFake()
	url := serve(t, f)
	panicky := serveWith(t, Options{Node: panickyNode{newFake()}, NodeID: "n1"})
	for _, c := range []struct {
		method, url, body string
		header            []string
		want              int
	}{
		{"GET", url + "/api/v1/nothing", "", nil, 404},
		{"GET", url + "/", "", nil, 404},
		{"GET", url + "/api/v1/nodes/", "", nil, 404},
		{"PUT", url + "/api/v1/status", "", nil, 405},
		{"POST", url + "/metrics", "", nil, 405},
		{"POST", url + "/api/v1/messages", strings.Repeat("x", maxBody+10), nil, 413},
		{"POST", url + "/api/v1/join-tokens", strings.Repeat("x", 2<<20), nil, 413},
		{"POST", url + "/api/v1/messages", strings.Repeat("x", maxBody+10), []string{headerIdempotency, "k"}, 413},
		{"POST", url + "/api/v1/messages", "topic=a", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415},
		{"POST", url + "/api/v1/messages", "{", nil, 400},
		{"POST", url + "/api/v1/messages", "", nil, 400},
		{"POST", url + "/api/v1/apikeys", `{"name":"../x","role":"admin"}`, nil, 422},
		{"POST", url + "/api/v1/apikeys", `{"name":"x","role":"root"}`, nil, 422},
		{"POST", url + "/api/v1/apikeys", `{"name":"x","role":"viewer","scopes":["all"]}`, nil, 422},
		{"GET", url + "/api/v1/nodes?colour=red", "", nil, 422},
		{"GET", url + "/api/v1/groups/x", "", nil, 422},
		{"GET", url + "/api/v1/status", "", []string{"Authorization", "Bearer x"}, 401},
		{"GET", panicky + "/api/v1/status", "", nil, 500},
	} {
		header := append([]string{"Content-Type", "application/json"}, c.header...)
		resp, raw := call(t, c.method, c.url, c.body, header...)
		if resp.StatusCode != c.want {
			t.Errorf("%s %s: %d, want %d: %.200s", c.method, c.url, resp.StatusCode, c.want, raw)
		}
		checkProblem(t, resp, raw)
		if len(raw) > 64<<10 {
			t.Errorf("%s %s: a problem of %d bytes", c.method, c.url, len(raw))
		}
	}
}
