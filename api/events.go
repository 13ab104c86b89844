package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

// EventStreamer tells what happens in the cluster.
type EventStreamer interface {
	// OpenEvents begins a stream. Errors: a GuardError for a query that means nothing,
	// ErrLimitExceeded if the node serves enough streams.
	OpenEvents(context.Context, client.EventQuery) (EventStream, error)
}

// EventStream is for one goroutine. Close it.
type EventStream interface {
	// Next waits for events until ctx ends, which is no error. id is where the stream
	// stands, also after events that were passed over. An error is the end.
	Next(ctx context.Context) (events []client.Event, id string, err error)
	Close()
}

const (
	// heartbeatEvery is how often a stream says that it is there.
	heartbeatEvery = 15 * time.Second
	// eventWriteTimeout cuts a reader that takes no byte for so long: it holds a place that
	// others may want, and can go on where it was.
	eventWriteTimeout = time.Minute
	// eventRetryMS is what browsers wait before they come again.
	eventRetryMS = 1000
)

type eventsInput struct {
	Type        []string `query:"type" doc:"Names of events such as node.down, or kinds such as node, separated by commas."`
	Client      string   `query:"client" maxLength:"65535" doc:"Only what concerns this client id."`
	LastEventID string   `header:"Last-Event-ID" doc:"The id of an event: go on behind it. Any node takes it."`
}

// eventRoute streams events. It is registered with huma for the sake of the document; what
// it writes is its own.
func (s *Server) eventRoute(a huma.API) {
	op := operation("stream-events", "/events", "What happens in the cluster, as server-sent events", 404)
	op.Description = "Each event has its name as event, an opaque id, and a JSON object as data. The id resumes at any node: " +
		"decisions of the control group are found again as long as one node that is up remembers them, what happened on a node as long as its process lives. " +
		"What is gone is told by an event of type lost, with the number of events if it is known. Events of one node come in order; between nodes there is none."
	schema := a.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[client.Event](), true, "Event")
	op.Responses = map[string]*huma.Response{"200": {
		Description: "A stream that does not end.",
		Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: schema}},
	}}
	huma.Register(a, op, func(ctx context.Context, in *eventsInput) (*huma.StreamResponse, error) {
		stream, err := s.opt.Node.OpenEvents(ctx, client.EventQuery{Types: in.Type, Client: in.Client, After: in.LastEventID})
		if err != nil {
			return nil, s.problemFor(op.OperationID, err)
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			defer stream.Close()
			hc.SetHeader("Content-Type", "text/event-stream")
			hc.SetHeader("Cache-Control", "no-store")
			hc.SetHeader("X-Accel-Buffering", "no") // proxies pass it on at once
			hc.SetStatus(http.StatusOK)
			s.sendEvents(hc, stream)
		}}, nil
	})
}

// sendEvents writes until the reader or the node goes.
func (s *Server) sendEvents(hc huma.Context, stream EventStream) {
	w := hc.BodyWriter()
	var rc *http.ResponseController
	if rw, ok := w.(http.ResponseWriter); ok {
		rc = http.NewResponseController(rw)
	}
	text := fmt.Sprintf("retry: %d\n", eventRetryMS)
	for {
		ctx, cancel := context.WithTimeout(hc.Context(), firstHeartbeat(text))
		events, id, err := stream.Next(ctx)
		cancel()
		if err != nil || hc.Context().Err() != nil {
			return
		}
		var b strings.Builder
		b.WriteString(text)
		text = ""
		for i := range events {
			if err := appendEvent(&b, &events[i]); err != nil {
				s.lg.Error("event not sent", eventField("api.failed"), errField(err))
				return
			}
		}
		if len(events) == 0 { // an id without data is no event, but is kept
			fmt.Fprintf(&b, ": heartbeat\nid: %s\n\n", id)
		}
		if rc != nil {
			_ = rc.SetWriteDeadline(time.Now().Add(eventWriteTimeout)) // some writers have none
		}
		if _, err := w.Write([]byte(b.String())); err != nil {
			return
		}
		if rc != nil && rc.Flush() != nil {
			return
		}
	}
}

// firstHeartbeat: the first one comes at once, with the id from which to go on.
func firstHeartbeat(text string) time.Duration {
	if text != "" {
		return time.Nanosecond
	}
	return heartbeatEvery
}

func appendEvent(b *strings.Builder, e *client.Event) error {
	raw, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode event %s: %w", e.Type, err)
	}
	fmt.Fprintf(b, "event: %s\nid: %s\ndata: %s\n\n", e.Type, e.ID, raw)
	return nil
}
