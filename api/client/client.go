package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// DefaultEndpoint is the admin address of a node that was started without
// configuration.
const DefaultEndpoint = "http://127.0.0.1:8080"

var (
	// ErrUnreachable means that no endpoint could be connected to, or none
	// answered in time.
	ErrUnreachable = errors.New("no endpoint answers")
	// ErrEndpoint means that an endpoint is not a URL.
	ErrEndpoint = errors.New("endpoint")
)

// Options configure a Client.
type Options struct {
	// Endpoints are base URLs such as http://127.0.0.1:8080, tried in order.
	// Empty: DefaultEndpoint.
	Endpoints []string
	// Timeout bounds one request at one endpoint. Default 10 s.
	Timeout time.Duration
	// Debug gets the equivalent curl command of each request. Nil: none.
	Debug func(curl string)
	// HTTP sends the requests. Nil: a client of its own.
	HTTP *http.Client
	// Credentials say who calls.
	Credentials Credentials
}

// Client calls the admin API.
type Client struct {
	opt       Options
	endpoints []string
}

// New checks the endpoints. It does not connect.
func New(opt Options) (*Client, error) {
	c := &Client{opt: opt}
	if len(opt.Endpoints) == 0 {
		opt.Endpoints = []string{DefaultEndpoint}
	}
	if c.opt.Timeout <= 0 {
		c.opt.Timeout = 10 * time.Second
	}
	if c.opt.HTTP == nil {
		// Its own transport: a proxy of the environment has no business
		// between an operator and a node.
		conf, err := opt.Credentials.tls()
		if err != nil {
			return nil, err
		}
		c.opt.HTTP = &http.Client{Transport: &http.Transport{TLSClientConfig: conf}, CheckRedirect: noRedirect}
	}
	if err := c.opt.Credentials.read(); err != nil {
		return nil, err
	}
	for _, e := range opt.Endpoints {
		if !strings.Contains(e, "://") {
			e = "http://" + e
		}
		u, err := url.Parse(e)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return nil, fmt.Errorf("%w %q: want a URL such as %s", ErrEndpoint, e, DefaultEndpoint)
		}
		c.endpoints = append(c.endpoints, strings.TrimSuffix(u.Scheme+"://"+u.Host+u.Path, "/"))
	}
	return c, nil
}

// Endpoints are the endpoints that will be tried.
func (c *Client) Endpoints() []string { return c.endpoints }

// CloseIdle closes connections that are kept for the next request.
func (c *Client) CloseIdle() { c.opt.HTTP.CloseIdleConnections() }

// Raw sends a request to the first endpoint that can be reached and returns
// the body. path begins with a slash. A problem of the server is a *Problem.
func (c *Client) Raw(ctx context.Context, method, path string, query url.Values, in any) ([]byte, error) {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	var failed []string
	for _, e := range c.endpoints {
		out, err := c.try(ctx, method, e+path, body)
		var refused *Problem
		switch {
		case err == nil:
			return out, nil
		case errors.As(err, &refused):
			return nil, err
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		}
		failed = append(failed, fmt.Sprintf("%s: %s", e, reason(err)))
		if method == http.MethodPost && !notSent(err) {
			// Another node might do it a second time.
			return nil, fmt.Errorf("%w: %s: it may have been done, or not: look before you ask again", ErrUnreachable, strings.Join(failed, "; "))
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrUnreachable, strings.Join(failed, "; "))
}

// notSent says that no byte of a request has left.
func notSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// reason is the part of an error of net/http that is not the request again.
func reason(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	return err.Error()
}

func (c *Client) try(ctx context.Context, method, target string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.opt.Timeout)
	defer cancel()
	req, err := c.newRequest(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json, application/problem+json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.opt.Debug != nil {
		c.opt.Debug(c.curl(method, target, body))
	}
	resp, err := c.opt.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 && !failingProbe(resp) {
		return nil, problemOf(resp, out)
	}
	return out, nil
}

// failingProbe says whether the answer is that of /livez, /readyz or /startupz
// that do not hold.
func failingProbe(resp *http.Response) bool {
	return resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Content-Type") == "application/json"
}

// problemOf reads a problem body; anything else becomes one.
func problemOf(resp *http.Response, body []byte) *Problem {
	p := new(Problem)
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/problem+json") &&
		json.Unmarshal(body, p) == nil && p.Status != 0 {
		return p
	}
	return &Problem{
		Title: resp.Status, Status: resp.StatusCode, Code: fmt.Sprintf("http-%d", resp.StatusCode),
		Detail: "the answer is not one of Flotilla: " + resp.Status,
		Hints:  []string{"check that --endpoint is the admin address of a node"},
	}
}

// curl is the same request as a command. It names the file of the key, and never
// the key itself.
func (c *Client) curl(method, target string, body []byte) string {
	s := "curl -sS" + c.opt.Credentials.curl()
	if method != http.MethodGet {
		s += " -X " + method
	}
	if body != nil {
		s += " -H 'Content-Type: application/json' -d " + quote(string(body))
	}
	return s + " " + quote(target)
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
