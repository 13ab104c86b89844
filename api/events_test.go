package api

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

func observed(t *testing.T, f fakeObserver) *httptest.Server {
	t.Helper()
	s, err := NewServer(Options{Node: &fakeNode{fakeObserver: f}, NodeID: "n1", Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s.Handler())
	t.Cleanup(h.Close)
	return h
}

// TestEventsAreServerSentEvents: names, ids and data, and an id without data where events
// were passed over, so that a reader that comes back goes on behind them.
func TestEventsAreServerSentEvents(t *testing.T) {
	asked := client.EventQuery{}
	h := observed(t, fakeObserver{asked: &asked, events: [][]client.Event{
		nil, {{ID: "id-1", Type: "node.down", Node: "n2"}, {ID: "id-2", Type: "lost", Data: map[string]any{"missed": 3}}}, nil,
	}})
	req, err := http.NewRequest(http.MethodGet, h.URL+"/api/v1/events?type=node.down,lost&client=dev%2F1", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Last-Event-ID", "id-0")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("content type %q", got)
	}
	want := "retry: 1000\n: heartbeat\nid: at-1\n\n" +
		"event: node.down\nid: id-1\ndata: {\"id\":\"id-1\",\"type\":\"node.down\",\"at\":\"0001-01-01T00:00:00Z\",\"node\":\"n2\"}\n\n" +
		"event: lost\nid: id-2\ndata: {\"id\":\"id-2\",\"type\":\"lost\",\"at\":\"0001-01-01T00:00:00Z\",\"data\":{\"missed\":3}}\n\n" +
		": heartbeat\nid: at-3\n\n"
	if string(raw) != want {
		t.Errorf("stream:\n%s\nwant:\n%s", raw, want)
	}
	if asked.After != "id-0" || asked.Client != "dev/1" || strings.Join(asked.Types, " ") != "node.down lost" {
		t.Errorf("asked for %+v", asked)
	}
}

func TestEventsRefusals(t *testing.T) {
	h := observed(t, fakeObserver{})
	for path, want := range map[string]int{"?client=busy": 429, "?what=1": 422} {
		resp, err := http.Get(h.URL + "/api/v1/events" + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want || resp.Header.Get("Content-Type") != problemType {
			t.Errorf("%s: %d %s, want %d", path, resp.StatusCode, resp.Header.Get("Content-Type"), want)
		}
	}
}

func TestSettingsTakeScalars(t *testing.T) {
	changed := map[string]string{}
	h := observed(t, fakeObserver{changed: changed})
	patch := func(query, body string) (int, string) {
		req, err := http.NewRequest(http.MethodPatch, h.URL+"/api/v1/settings"+query, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		raw, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(raw)
	}
	if code, body := patch("?dry_run=true", `{"mqtt.max_qos":1}`); code != 200 || len(changed) != 0 {
		t.Errorf("dry run: %d %s, changed %v", code, body, changed)
	}
	if code, body := patch("", `{"mqtt.max_qos":1,"inbox.qos0_offline":true,"inbox.overflow":"refuse"}`); code != 200 {
		t.Errorf("%d %s", code, body)
	}
	if changed["mqtt.max_qos"] != "1" || changed["inbox.qos0_offline"] != "true" || changed["inbox.overflow"] != "refuse" {
		t.Errorf("changed %v", changed)
	}
	for body, want := range map[string]int{`{}`: 422, `{"mqtt.max_qos":[1]}`: 422, `{"shards":"9"}`: 409, `[]`: 422} {
		if code, got := patch("", body); code != want {
			t.Errorf("%s: %d %s, want %d", body, code, got, want)
		}
	}
}

func TestKickManyChecksItsCode(t *testing.T) {
	h := observed(t, fakeObserver{})
	post := func(body string) *http.Response {
		resp, err := http.Post(h.URL+"/api/v1/clients/kick", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	if resp := post(`{"filter":{"node":"n2"},"rate":50}`); resp.StatusCode != 202 || resp.Header.Get("Location") != "/api/v1/operations/op-9" {
		t.Errorf("%d %s", resp.StatusCode, resp.Header.Get("Location"))
	}
	for _, body := range []string{`{"filter":{"node":"n2"},"reason_code":4}`, `{"rate":1}`, `{"filter":{},"rate":-1}`} {
		if resp := post(body); resp.StatusCode != 422 {
			t.Errorf("%s: %d", body, resp.StatusCode)
		}
	}
}
