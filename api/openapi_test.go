package api

import (
	"bytes"
	"io"
	"net/http"
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
