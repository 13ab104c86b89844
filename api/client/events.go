package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// PathEvents is the stream of events.
const PathEvents = "/api/v1/events"

// EventLost is the type of the event that tells of events that cannot be had any more.
const EventLost = "lost"

// Event is something that happened in the cluster.
type Event struct {
	ID        string         `json:"id,omitempty" doc:"Pass it as Last-Event-ID to go on behind this event, at any node. Opaque."`
	Type      string         `json:"type" doc:"Stable name, such as node.down."`
	At        time.Time      `json:"at"`
	Node      string         `json:"node,omitempty" doc:"Where it happened, or the node that it is about."`
	Message   string         `json:"message,omitempty" doc:"For people; not stable."`
	Client    string         `json:"client,omitempty" doc:"Client id."`
	User      string         `json:"user,omitempty"`
	Peer      string         `json:"peer,omitempty" doc:"Address of the client, or another node."`
	Listener  string         `json:"listener,omitempty"`
	Group     *uint32        `json:"group,omitempty"`
	Term      uint64         `json:"term,omitempty"`
	Operation string         `json:"operation,omitempty"`
	Reason    string         `json:"reason,omitempty"`
	Data      map[string]any `json:"data,omitempty" doc:"What else is known. Of lost: missed, a number, or null where nobody can count."`
}

// EventQuery selects events.
type EventQuery struct {
	// Types are names such as node.down, or kinds such as node. None: all.
	Types []string
	// Client selects what concerns a client id.
	Client string
	// After is the ID of an event to go on behind. Empty: from now on.
	After string
}

// ErrEndOfEvents is what a callback of Events returns to end the stream without an error.
var ErrEndOfEvents = errors.New("end of events")

const (
	// eventRetry is the pause before a stream that broke is opened again.
	eventRetry = time.Second
	// eventSilence ends a stream that says nothing, not even that it is there: three
	// heartbeats of the server.
	eventSilence = 45 * time.Second
	// eventLineMax bounds a line of a stream.
	eventLineMax = 1 << 20
)

// Events calls fn for every event until ctx ends, which is no error, or fn fails. A stream
// that breaks is opened again where it was, at the next endpoint that answers; broken (nil:
// none) is told. What cannot be had any more is an event of type EventLost.
func (c *Client) Events(ctx context.Context, q EventQuery, broken func(error), fn func(Event) error) error {
	opened := false
	for {
		var failed []string
		for _, e := range c.endpoints {
			err := c.stream(ctx, e, &q, &opened, fn)
			var refused *Problem
			var stop *stopError
			switch {
			case ctx.Err() != nil || errors.Is(err, ErrEndOfEvents):
				return nil
			case errors.As(err, &stop):
				return stop.err
			case errors.As(err, &refused) && refused.Status < 500 && refused.Status != http.StatusTooManyRequests:
				return err
			}
			failed = append(failed, fmt.Sprintf("%s: %s", e, reason(err)))
		}
		err := fmt.Errorf("%w: %s", ErrUnreachable, strings.Join(failed, "; "))
		if !opened {
			return err
		}
		if broken != nil {
			broken(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(eventRetry):
		}
	}
}

// stopError is the end that a callback wants.
type stopError struct{ err error }

func (e *stopError) Error() string { return e.err.Error() }

func (e *stopError) Unwrap() error { return e.err }

// stream reads one connection until it breaks.
func (c *Client) stream(ctx context.Context, endpoint string, q *EventQuery, opened *bool, fn func(Event) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The first byte must come within the time of any request; then the server speaks often.
	silence := time.AfterFunc(c.opt.Timeout, cancel)
	defer silence.Stop()
	v := url.Values{}
	if len(q.Types) > 0 {
		v.Set("type", strings.Join(q.Types, ","))
	}
	if q.Client != "" {
		v.Set("client", q.Client)
	}
	target := endpoint + PathEvents
	if len(v) > 0 {
		target += "?" + v.Encode()
	}
	req, err := c.newRequest(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream, application/problem+json")
	if q.After != "" {
		req.Header.Set("Last-Event-ID", q.After)
	}
	resp, err := c.opt.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, err := io.ReadAll(io.LimitReader(resp.Body, eventLineMax))
		if err != nil {
			return err
		}
		return problemOf(resp, body)
	}
	*opened = true
	return readEvents(resp.Body, q, func() { silence.Reset(eventSilence) }, fn)
}

// readEvents reads the lines of a stream. q.After follows.
func readEvents(r io.Reader, q *EventQuery, heard func(), fn func(Event) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), eventLineMax)
	id, data := "", ""
	for lines.Scan() {
		heard()
		line := lines.Text()
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			if id != "" {
				q.After = id
			}
			if data == "" {
				continue
			}
			var e Event
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				return fmt.Errorf("read an event: %w", err)
			}
			data = ""
			if err := fn(e); err != nil {
				return &stopError{err}
			}
		case field == "id":
			id = value
		case field == "data":
			data += value
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}

// Also is a client that asks further addresses (HOST:PORT) when its endpoints do not answer,
// in the way in which the first of them is asked.
func (c *Client) Also(addrs ...string) *Client {
	out := *c
	scheme, _, _ := strings.Cut(c.endpoints[0], "://")
	out.endpoints = slices.Clone(c.endpoints)
	for _, a := range addrs {
		if e := scheme + "://" + a; !slices.Contains(out.endpoints, e) {
			out.endpoints = append(out.endpoints, e)
		}
	}
	return &out
}
