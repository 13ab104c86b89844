package api

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
)

// TestOpenAPIDocument: another program's validator finds nothing wrong with the document, and the answers of the routes are those
// that it describes.
func TestOpenAPIDocument(t *testing.T) {
	url := serve(t, newFake())
	_, raw := call(t, "GET", url+"/openapi.json", "")
	doc, err := libopenapi.NewDocument(raw)
	if err != nil {
		t.Fatal(err)
	}
	v, errs := validator.NewValidator(doc)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if ok, wrong := v.ValidateDocument(); !ok {
		for _, w := range wrong {
			t.Errorf("%s: %s %v", w.Message, w.Reason, w.SchemaValidationErrors)
		}
	}
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/status", ""}, {"GET", "/nodes", ""}, {"GET", "/nodes/n1", ""}, {"GET", "/nodes/n9", ""}, {"GET", "/nodes/n1/safe-to-stop", ""},
		{"GET", "/groups", ""}, {"GET", "/groups/1", ""}, {"GET", "/operations", ""}, {"GET", "/operations/op-1", ""},
		{"POST", "/nodes/n3/drain", ""}, {"DELETE", "/nodes/n1", ""}, {"POST", "/rebalance", ""},
		{"GET", "/clients", ""}, {"GET", "/sessions", ""}, {"GET", "/subscriptions", ""}, {"GET", "/shares", ""}, {"GET", "/shares/g", ""},
		{"GET", "/retained", ""}, {"DELETE", "/retained?filter=none", ""}, {"GET", "/alarms", ""}, {"GET", "/join-tokens", ""},
		{"POST", "/join-tokens", `{"ttl_s":60,"uses":1}`}, {"POST", "/messages", `{"topic":"a","payload":"x"}`}, {"POST", "/messages", `{"topic":""}`},
		{"GET", "/apikeys", ""}, {"GET", "/audit", ""}, {"GET", "/sessions?limit=0", ""},
	} {
		req, err := http.NewRequest(c.method, url+base+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Close = true
		if c.body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		resp.Body = io.NopCloser(bytes.NewReader(answer))
		if ok, wrong := v.ValidateHttpResponse(req, resp); !ok {
			for _, w := range wrong {
				t.Errorf("%s %s %d: %s: %s\n%.300s", c.method, c.path, resp.StatusCode, w.Message, w.Reason, answer)
			}
		}
	}
}

// TestOpenAPIDocumentTellsWhatTheGateDoes: who may call, and the headers around the handlers.
func TestOpenAPIDocumentTellsWhatTheGateDoes(t *testing.T) {
	url := serve(t, newFake())
	_, raw := call(t, "GET", url+"/openapi.json", "")
	type headers map[string]json.RawMessage
	type operation struct {
		Role       string `json:"x-flotilla-role"`
		Parameters []struct{ Name, In string }
		Responses  map[string]struct{ Headers headers }
	}
	var doc struct {
		Security   []map[string][]string
		Components struct {
			SecuritySchemes map[string]struct{ Type, Scheme string }
		}
		Paths map[string]map[string]operation
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	schemes := doc.Components.SecuritySchemes
	if len(schemes) != 2 || schemes["apiKey"].Type != "http" || schemes["apiKey"].Scheme != "bearer" || schemes["clientCertificate"].Type != "mutualTLS" {
		t.Errorf("security schemes %v", schemes)
	}
	if len(doc.Security) != 3 || doc.Security[0]["apiKey"] == nil || doc.Security[1]["clientCertificate"] == nil || len(doc.Security[2]) != 0 {
		t.Errorf("security %v: want a key, or a certificate, or nothing", doc.Security)
	}
	described := map[string]bool{}
	for path, item := range doc.Paths {
		for method, op := range item {
			described[strings.ToUpper(method)+" "+path] = true
			if op.Role == "" || op.Role == RoleNone.String() {
				t.Errorf("%s %s: nobody says who may call it", method, path)
			}
		}
	}
	for _, row := range accessTable() {
		if strings.Contains(row.pattern, base+"/") && !described[row.pattern] {
			t.Errorf("%s is not in the document", row.pattern)
		}
	}
	takes := func(method, path, header string) bool {
		for _, p := range doc.Paths[base+path][method].Parameters {
			if p.Name == header && p.In == "header" {
				return true
			}
		}
		return false
	}
	for _, c := range []struct {
		method, path, header string
		want                 bool
	}{
		{"post", "/messages", "Idempotency-Key", true}, {"post", "/nodes/{id}/drain", "Idempotency-Key", true}, {"delete", "/nodes/{id}", "Idempotency-Key", false},
		{"post", "/nodes/{id}/drain", "If-Match", true}, {"delete", "/sessions/{id}", "If-Match", true}, {"delete", "/apikeys/{id}", "If-Match", true},
		{"post", "/rebalance", "If-Match", false}, {"post", "/clients/kick", "If-Match", false}, {"delete", "/retained", "If-Match", false},
		{"get", "/nodes/{id}", "If-Match", false}, {"get", "/events", "Last-Event-ID", true},
	} {
		if takes(c.method, c.path, c.header) != c.want {
			t.Errorf("%s %s takes %s: want %v", c.method, c.path, c.header, c.want)
		}
	}
	// What is sent is described.
	for _, c := range []struct{ method, path, target, header, value string }{
		{"GET", "/nodes/{id}", "/nodes/n1?consistency=stale", "Flotilla-Staleness-Ms ETag Flotilla-Group Flotilla-Index", ""},
		{"POST", "/nodes/{id}/drain", "/nodes/n3/drain", "Location", ""},
		{"POST", "/join-tokens", "/join-tokens", "", "k"}, {"POST", "/join-tokens", "/join-tokens", "Idempotency-Replayed", "k"},
	} {
		req, err := http.NewRequest(c.method, url+base+c.target, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.value != "" {
			req.Header.Set("Idempotency-Key", c.value)
			req.Header.Set("Content-Type", "application/json")
			req.Body = io.NopCloser(strings.NewReader(`{"ttl_s":60,"uses":1}`))
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		known := doc.Paths[base+c.path][strings.ToLower(c.method)].Responses[strconv.Itoa(resp.StatusCode)].Headers
		for _, h := range strings.Fields(c.header) {
			if resp.Header.Get(h) == "" || known[h] == nil {
				t.Errorf("%s %s %d: header %s is %q, described as %s", c.method, c.target, resp.StatusCode, h, resp.Header.Get(h), known[h])
			}
		}
	}
	for _, status := range []string{"401", "429", "503"} {
		got := doc.Paths[base+"/nodes"]["get"].Responses[status].Headers
		if want := map[string]string{"401": "WWW-Authenticate", "429": "Retry-After", "503": "Retry-After"}[status]; got[want] == nil {
			t.Errorf("%s: %v, want %s", status, got, want)
		}
	}
}
