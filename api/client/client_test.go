package client

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func newClient(t *testing.T, opt Options) *Client {
	t.Helper()
	c, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdle)
	return c
}

func TestEndpointsAreTriedInOrder(t *testing.T) {
	dead := httptest.NewServer(nil)
	dead.Close()
	alive := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"cluster_id":"x"}`))
	}))
	defer alive.Close()
	var curls []string
	c := newClient(t, Options{Endpoints: []string{dead.URL, alive.URL}, Debug: func(s string) { curls = append(curls, s) }})
	st, err := c.Status(t.Context())
	if err != nil || st.ClusterID != "x" || len(curls) != 2 {
		t.Errorf("status %+v, error %v, tried %q", st, err, curls)
	}
	if want := "curl -sS '" + alive.URL + "/api/v1/status'"; len(curls) == 2 && curls[1] != want {
		t.Errorf("curl %q, want %q", curls[1], want)
	}
	_, err = newClient(t, Options{Endpoints: []string{dead.URL}}).Status(t.Context())
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), dead.URL) {
		t.Errorf("all dead: %v", err)
	}
}

func TestSilentEndpointTimesOut(t *testing.T) {
	release := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer silent.Close()
	defer close(release)
	_, err := newClient(t, Options{Endpoints: []string{silent.URL}, Timeout: 20 * time.Millisecond}).Status(t.Context())
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "no answer in time") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newClient(t, Options{Endpoints: []string{silent.URL}}).Status(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestProblemsAreErrors(t *testing.T) {
	for _, c := range []struct{ name, contentType, body, code string }{
		{"problem", "application/problem+json", `{"status":409,"code":"conflict","detail":"no"}`, CodeConflict},
		{"foreign", "text/html", `<h1>no</h1>`, "http-409"},
		{"broken", "application/problem+json", `{`, "http-409"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", c.contentType)
				w.WriteHeader(409)
				_, _ = w.Write([]byte(c.body))
			}))
			defer s.Close()
			_, err := newClient(t, Options{Endpoints: []string{s.URL}}).Status(t.Context())
			var p *Problem
			if !errors.As(err, &p) || p.Code != c.code || p.Status != 409 {
				t.Errorf("got %#v", err)
			}
		})
	}
}

func TestEndpointsMustBeURLs(t *testing.T) {
	for e, ok := range map[string]bool{
		"http://a:1": true, "https://a": true, "a:8080": true, "ftp://a": false, "http://": false, "://": false,
	} {
		if _, err := New(Options{Endpoints: []string{e}}); (err == nil) != ok || (err != nil && !errors.Is(err, ErrEndpoint)) {
			t.Errorf("endpoint %q: %v", e, err)
		}
	}
}
