package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

// Consistent says how new what a node knows is.
type Consistent interface {
	// Synced returns once this node knows all that was committed in the control
	// group before the call. ErrNoLeader if there is no majority.
	Synced(context.Context) error
	// Staleness is how long ago this node last heard of the control group's leader;
	// negative if it never did.
	Staleness() time.Duration
	// Positions are the indexes that the replicas of this node have applied, by group.
	Positions() map[uint32]uint64
}

// exchange is what a handler behind huma cannot see of its request and answer.
type exchange struct {
	header http.Header // of the answer
	stale  bool        // asked for with consistency=stale
	fields []string    // asked for with fields=
}

type exchangeKey struct{}

// exchanging gives a handler its exchange.
func exchanging(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ex := &exchange{header: w.Header()}
		if r.URL.RawQuery != "" {
			q := r.URL.Query()
			ex.stale = q.Get("consistency") == "stale"
			if f := q.Get("fields"); f != "" {
				ex.fields = strings.Split(f, ",")
			}
		}
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, ex)))
	})
}

// exchangeOf never returns nil.
func exchangeOf(ctx context.Context) *exchange {
	if ex, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		return ex
	}
	return &exchange{header: http.Header{}}
}

// synced makes sure that what this node knows is as new as was asked for.
func (s *Server) synced(ctx context.Context, consistency string) error {
	if consistency == "stale" {
		return nil
	}
	return s.opt.Node.Synced(ctx)
}

// describe puts the headers of a GET's answer: how old it may be, and for one
// object which state of it this is.
func (s *Server) describe(ex *exchange, single bool, before map[uint32]uint64, out any) {
	if ex.stale {
		if age := s.opt.Node.Staleness(); age >= 0 {
			ex.header.Set(headerStaleness, strconv.FormatInt(age.Milliseconds(), 10))
		}
	}
	if !single {
		return
	}
	ex.header.Set(headerETag, etagOf(out))
	group, known := groupOf(out)
	if !known {
		return
	}
	ex.header.Set(headerGroup, strconv.FormatUint(uint64(group), 10))
	if index, here := before[group]; here {
		ex.header.Set(headerIndex, strconv.FormatUint(index, 10))
	}
}

// groupOf is the group that an object lives in.
func groupOf(v any) (uint32, bool) {
	switch o := v.(type) {
	case client.Session:
		return o.Shard, true
	case client.Share:
		return o.Shard, true
	case client.Group:
		return o.ID, true
	case client.Node, client.Operation, client.APIKey:
		return 0, true
	}
	return 0, false
}

// checkFields refuses names that the items of an answer do not have.
func checkFields[T any](fields []string) error {
	if len(fields) == 0 {
		return nil
	}
	t := reflect.TypeFor[T]()
	if items, ok := t.FieldByName("Items"); ok && items.Type.Kind() == reflect.Slice {
		t = items.Type.Elem()
	}
	known := map[string]bool{}
	var names []string
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" && name != "-" && !known[name] {
			known[name] = true
			names = append(names, name)
		}
	}
	for _, f := range fields {
		if !known[f] {
			p := newProblem(422, client.CodeInvalid, "there is no field "+strconv.Quote(f)+" here")
			p.Errors = []client.ProblemDetail{{Location: "query.fields", Message: "use some of " + strings.Join(names, ","), Value: f}}
			return p
		}
	}
	return nil
}

// selectFields keeps some members of an object, or of the items of a list.
func selectFields(body any, fields []string) (any, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(raw, &object); err != nil {
		return nil, err
	}
	var items []json.RawMessage
	if json.Unmarshal(object["items"], &items) != nil {
		return json.RawMessage(some(object, fields)), nil
	}
	for i := range items {
		var item map[string]json.RawMessage
		if err := json.Unmarshal(items[i], &item); err != nil {
			return nil, err
		}
		items[i] = some(item, fields)
	}
	return struct {
		Items []json.RawMessage `json:"items"`
		Meta  json.RawMessage   `json:"meta"`
	}{items, object["meta"]}, nil
}

// some writes the members in the order in which they were asked for. A member
// that is left out where it is empty is left out here, too.
func some(object map[string]json.RawMessage, fields []string) []byte {
	var b bytes.Buffer
	b.WriteByte('{')
	seen := map[string]bool{}
	for _, f := range fields {
		value, ok := object[f]
		if !ok || seen[f] {
			continue
		}
		seen[f] = true
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Quote(f))
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes()
}
