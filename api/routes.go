package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

// base is the path of this version of the API.
const base = "/api/v1"

// routes registers everything below base and renders the OpenAPI document.
func (s *Server) routes() error {
	cfg := huma.DefaultConfig("Flotilla admin API", s.opt.Version)
	cfg.Info.Description = "Everything that the flotilla command does, any node answers."
	cfg.CreateHooks = nil // no $schema member in bodies
	cfg.OpenAPIPath, cfg.DocsPath, cfg.SchemasPath = "", "", ""
	cfg.RejectUnknownQueryParameters = true
	cfg.Transformers = []huma.Transformer{s.transform}
	cfg.OnAddOperation = append(cfg.OnAddOperation, documentProblems)
	a := humago.New(s.mux, cfg)

	s.clusterRoutes(a)
	s.listRoutes(a)
	s.messageRoutes(a)
	s.memberRoutes(a)
	s.observeRoutes(a)
	s.backupRoutes(a)
	s.verifyRoutes(a)
	s.debugNodeRoutes(a)
	s.keyRoutes(a)
	s.auditRoutes(a)
	s.actions = actionsOf(a.OpenAPI())
	document(a.OpenAPI())

	schemas := a.OpenAPI().Components.Schemas.Map()
	delete(schemas, "ErrorModel") // huma's own error body is never sent
	delete(schemas, "ErrorDetail")
	var err error
	if s.spec, err = json.Marshal(a.OpenAPI()); err != nil {
		return fmt.Errorf("render the OpenAPI document: %w", err)
	}
	return nil
}

// documentProblems says in the document that every error is a problem.
func documentProblems(o *huma.OpenAPI, op *huma.Operation) {
	schema := o.Components.Schemas.Schema(problemSchemaType(), true, "Problem")
	for status, r := range op.Responses {
		if n, err := strconv.Atoi(status); err == nil && n < 400 {
			continue
		}
		r.Content = map[string]*huma.MediaType{problemType: {Schema: schema}}
	}
}

// operation is a GET with the statuses that any of them may answer.
func operation(id, path, summary string, errs ...int) huma.Operation {
	return huma.Operation{
		OperationID: id, Method: http.MethodGet, Path: base + path, Summary: summary,
		Errors: append(errs, 401, 403, 422, 429, 503),
	}
}

// actionsOf are the operation ids by the pattern of their route.
func actionsOf(o *huma.OpenAPI) map[string]string {
	out := map[string]string{}
	for path, item := range o.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Put, item.Post, item.Patch, item.Delete} {
			if op != nil {
				out[op.Method+" "+path] = op.OperationID
			}
		}
	}
	return out
}

// Done is the answer of what has nothing to tell: an empty object. It has a
// name because the document's schemas need one.
type Done struct{}

// body is an answer without headers of its own.
type body[T any] struct{ Body T }

// answer wraps a handler: it bounds the time and turns errors into problems.
func answer[I, O any](s *Server, a huma.API, op huma.Operation, fn func(context.Context, *I) (O, error)) {
	limit := requestTimeout
	if op.OperationID == "get-status" {
		limit = statusTimeout
	}
	reads := op.Method == http.MethodGet
	single := reads && strings.HasSuffix(op.Path, "}")
	huma.Register(a, op, func(ctx context.Context, in *I) (*body[O], error) {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		ex := exchangeOf(ctx)
		err := checkFields[O](ex.fields)
		var before map[uint32]uint64
		var out O
		if err == nil {
			if single {
				before = s.opt.Node.Positions()
			}
			out, err = fn(ctx, in)
		}
		if err != nil {
			return nil, s.problemFor(op.OperationID, err)
		}
		if reads {
			s.describe(ex, single, before, out)
		}
		return &body[O]{out}, nil
	})
}

func (s *Server) problemFor(op string, err error) error {
	p, internal := toProblem(err)
	if internal {
		s.lg.Error("request failed", eventField("api.failed"), opField(op), errField(err))
	}
	return p
}

func (s *Server) clusterRoutes(a huma.API) {
	answer(s, a, operation("get-status", "/status", "What the cluster is and whether it is well"),
		func(ctx context.Context, _ *struct{}) (client.Status, error) { return s.status(ctx) })
	answer(s, a, operation("list-nodes", "/nodes", "Members of the cluster", 422), s.nodes)
	answer(s, a, operation("get-node", "/nodes/{id}", "One member", 404), s.node)
	answer(s, a, operation("list-groups", "/groups", "Raft groups", 422), s.groups)
	answer(s, a, operation("get-group", "/groups/{id}", "One Raft group", 404, 422), s.group)
}

// status guarantees that lists are lists, never null.
func (s *Server) status(ctx context.Context) (client.Status, error) {
	st, err := s.opt.Node.Status(ctx)
	if err != nil {
		return st, err
	}
	st.Reasons, st.Nodes, st.Groups = filled(st.Reasons), filled(st.Nodes), filled(st.Groups)
	for i := range st.Nodes {
		st.Nodes[i].Roles = filled(st.Nodes[i].Roles)
	}
	for i := range st.Groups {
		st.Groups[i].Replicas = filled(st.Groups[i].Replicas)
	}
	return st, nil
}

func filled[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// PageParams page a list. It is exported only because embedded parameters must be.
type PageParams struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"The most items wanted."`
	Cursor string `query:"cursor" maxLength:"4096" doc:"next_cursor of the page before."`
	Fields string `query:"fields" maxLength:"4096" doc:"Only these members of each item, separated by commas."`
}

// ObjectParams are what every single object takes; exported as PageParams is.
type ObjectParams struct {
	Consistency string `query:"consistency" enum:"linearizable,stale" default:"linearizable" doc:"stale is answered by this node alone, without a majority."`
	Fields      string `query:"fields" maxLength:"4096" doc:"Only these members, separated by commas."`
}

type idInput struct {
	ID string `path:"id" maxLength:"65535"`
	ObjectParams
}

type groupInput struct {
	ID uint32 `path:"id"`
	ObjectParams
}

func (s *Server) nodes(ctx context.Context, in *ListParams) (client.List[client.Node], error) {
	st, err := s.status(ctx)
	if err != nil {
		return client.List[client.Node]{}, err
	}
	return slicePage("nodes", st.Nodes, &in.PageParams)
}

func (s *Server) groups(ctx context.Context, in *ListParams) (client.List[client.Group], error) {
	st, err := s.status(ctx)
	if err != nil {
		return client.List[client.Group]{}, err
	}
	return slicePage("groups", st.Groups, &in.PageParams)
}

// slicePage pages a list that is in memory as a whole. Its positions are offsets.
func slicePage[T any](list string, all []T, in *PageParams) (client.List[T], error) {
	position, ok := decodeCursor(list, in.Cursor)
	from := 0
	if ok && position != "" {
		n, err := strconv.Atoi(position)
		ok = err == nil && n >= 0
		from = min(n, len(all))
	}
	if !ok {
		return client.List[T]{}, badCursor()
	}
	to := min(from+in.Limit, len(all))
	count := int64(len(all))
	out := client.List[T]{Items: filled(all[from:to]), Meta: client.Meta{Limit: in.Limit, CountHint: &count}}
	if to < len(all) {
		out.Meta.NextCursor = encodeCursor(list, strconv.Itoa(to))
	}
	return out, nil
}

func (s *Server) node(ctx context.Context, in *idInput) (client.Node, error) {
	st, err := s.status(ctx)
	if err != nil {
		return client.Node{}, err
	}
	for _, n := range st.Nodes {
		if n.ID == in.ID {
			return n, nil
		}
	}
	return client.Node{}, fmt.Errorf("node %q: %w", in.ID, ErrNotFound)
}

func (s *Server) group(ctx context.Context, in *groupInput) (client.Group, error) {
	st, err := s.status(ctx)
	if err != nil {
		return client.Group{}, err
	}
	for _, g := range st.Groups {
		if g.ID == in.ID {
			return g, nil
		}
	}
	return client.Group{}, fmt.Errorf("group %d: %w", in.ID, ErrNotFound)
}
