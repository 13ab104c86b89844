package api

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// What stands around the handlers, and so is unknown to huma: who may call, and the headers of requests and answers.

// Names of the security schemes.
const (
	schemeKey         = "apiKey"
	schemeCertificate = "clientCertificate"
)

// document completes the OpenAPI document from the routes and the table that the gate asks.
func document(o *huma.OpenAPI) {
	o.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		schemeKey:         {Type: "http", Scheme: "bearer", BearerFormat: "flotilla key", Description: "An API key (flotilla apikey add), or the bootstrap key of the node."},
		schemeCertificate: {Type: "mutualTLS", Description: "A client certificate of admin.tls.client_ca whose subject has the unit flotilla-viewer, flotilla-operator or flotilla-admin."},
	}
	// The empty one: on loopback nobody is asked as long as no key exists and nothing is configured.
	o.Security = []map[string][]string{{schemeKey: {}}, {schemeCertificate: {}}, {}}
	rows := map[string]accessRow{}
	for _, row := range accessTable() {
		rows[row.pattern] = row
	}
	for path, item := range o.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Put, item.Post, item.Patch, item.Delete} {
			if op != nil {
				documentOperation(o, op, path, rows[op.Method+" "+path])
			}
		}
	}
}

func documentOperation(o *huma.OpenAPI, op *huma.Operation, path string, row accessRow) {
	op.Extensions = map[string]any{"x-flotilla-role": row.role.String()}
	if row.flags&keyed != 0 { // never open beyond loopback, whatever is allowed
		op.Description = strings.TrimSpace(op.Description + "\n\nBeyond loopback it always needs a key or a certificate.")
	}
	if op.Method == http.MethodPost {
		requestHeader(op, headerIdempotency, "Carry this out once: who repeats the request with the same key at the same node within an hour gets the first answer.", idempotencyKey)
		problemResponse(o, op, http.StatusConflict)
		responseHeader(op, headerReplayed, "true: the answer of an earlier request with this Idempotency-Key.", succeeded, huma.TypeString)
	}
	if hasObject(o, op.Method, path) {
		requestHeader(op, headerIfMatch, "Only if the object still has this ETag; several are separated by commas, * is any.", 0)
		problemResponse(o, op, http.StatusPreconditionFailed)
	}
	if op.Method == http.MethodGet {
		if slices.ContainsFunc(op.Parameters, func(p *huma.Param) bool { return p.Name == "consistency" }) {
			responseHeader(op, headerStaleness, "With consistency=stale: how long ago the node heard of the control group's leader, if it ever did.", succeeded, huma.TypeInteger)
		}
		if strings.HasSuffix(path, "}") {
			responseHeader(op, headerETag, "Names the state of the object; for If-Match.", succeeded, huma.TypeString)
			responseHeader(op, headerGroup, "Id of the Raft group that the object lives in, if it does.", succeeded, huma.TypeInteger)
			responseHeader(op, headerIndex, "At least up to this index the group was applied, if the node has a replica.", succeeded, huma.TypeInteger)
		}
	}
	responseHeader(op, "WWW-Authenticate", "How to say who calls: Bearer.", func(status int) bool { return status == http.StatusUnauthorized }, huma.TypeString)
	responseHeader(op, "Retry-After", "Seconds to wait before the next try, where that is known.",
		func(status int) bool {
			return status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable
		}, huma.TypeInteger)
}

// hasObject says whether If-Match has something to look at: a DELETE of a single object, or a POST of a verb below one.
func hasObject(o *huma.OpenAPI, method, path string) bool {
	if method == http.MethodPost {
		path = path[:strings.LastIndexByte(path, '/')]
	} else if method != http.MethodDelete {
		return false
	}
	item := o.Paths[path]
	return strings.HasSuffix(path, "}") && item != nil && item.Get != nil
}

func succeeded(status int) bool { return status < 300 }

func requestHeader(op *huma.Operation, name, doc string, longest int) {
	s := &huma.Schema{Type: huma.TypeString}
	if longest > 0 {
		s.MaxLength = &longest
	}
	s.PrecomputeMessages()
	op.Parameters = append(op.Parameters, &huma.Param{Name: name, In: "header", Description: doc, Schema: s})
}

func responseHeader(op *huma.Operation, name, doc string, where func(status int) bool, kind string) {
	for status, r := range op.Responses {
		n, err := strconv.Atoi(status)
		if err != nil || !where(n) {
			continue
		}
		if r.Headers == nil {
			r.Headers = map[string]*huma.Param{}
		}
		r.Headers[name] = &huma.Param{Description: doc, Schema: &huma.Schema{Type: kind}}
	}
}

// problemResponse documents a status that comes from around the handler.
func problemResponse(o *huma.OpenAPI, op *huma.Operation, status int) {
	key := strconv.Itoa(status)
	if op.Responses[key] != nil {
		return
	}
	schema := o.Components.Schemas.Schema(problemSchemaType(), true, "Problem")
	op.Responses[key] = &huma.Response{Description: http.StatusText(status), Content: map[string]*huma.MediaType{problemType: {Schema: schema}}}
}
