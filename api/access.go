package api

import (
	"fmt"
	"net/http"
	"slices"
)

// Role is what a caller may do, or what a route needs. A higher role may do all
// that a lower one may.
type Role byte

// The roles.
const (
	// RoleNone is a route that is open to everybody: the probes.
	RoleNone Role = iota
	// RoleMetrics may read /metrics and nothing else.
	RoleMetrics
	// RoleViewer may look at everything but payloads.
	RoleViewer
	// RoleOperator may do what can be undone: kick, publish, drain. It may read payloads.
	RoleOperator
	// RoleAdmin may do everything.
	RoleAdmin
)

// String is the name of the role in the API.
func (r Role) String() string {
	switch r {
	case RoleMetrics:
		return "metrics"
	case RoleViewer:
		return "viewer"
	case RoleOperator:
		return "operator"
	case RoleAdmin:
		return "admin"
	default:
		return "none"
	}
}

// ParseRole is the inverse for the roles that a key can have.
func ParseRole(s string) (Role, bool) {
	for _, r := range []Role{RoleViewer, RoleOperator, RoleAdmin} {
		if r.String() == s {
			return r, true
		}
	}
	return RoleNone, false
}

// accessFlag marks a route.
type accessFlag byte

const (
	// keyed routes are never open to anonymous callers beyond loopback, whatever
	// is allowed: they show the memory of a process, or make the first key.
	keyed accessFlag = 1 << iota
	// audited routes are written to the audit log although they only read.
	audited
)

// accessRow says who may call a route.
type accessRow struct {
	pattern string // as it was registered with the mux
	role    Role
	flags   accessFlag
}

// accessTable is the one place that says who may call what. Every route has a
// row: a server with a route that has none is not made.
func accessTable() []accessRow {
	return []accessRow{
		{"GET /livez", RoleNone, 0}, {"GET /livez/{check}", RoleNone, 0},
		{"GET /readyz", RoleNone, 0}, {"GET /readyz/{check}", RoleNone, 0},
		{"GET /startupz", RoleNone, 0}, {"GET /startupz/{check}", RoleNone, 0},
		{"GET /metrics", RoleMetrics, 0},
		{"GET /openapi.json", RoleViewer, 0},

		{"GET /debug/pprof/", RoleAdmin, keyed}, {"GET /debug/pprof/cmdline", RoleAdmin, keyed},
		{"GET /debug/pprof/profile", RoleAdmin, keyed}, {"GET /debug/pprof/symbol", RoleAdmin, keyed},
		{"GET /debug/pprof/trace", RoleAdmin, keyed},

		{"GET /api/v1/status", RoleViewer, 0},
		{"GET /api/v1/nodes", RoleViewer, 0}, {"GET /api/v1/nodes/{id}", RoleViewer, 0},
		{"GET /api/v1/nodes/{id}/safe-to-stop", RoleViewer, 0},
		{"POST /api/v1/nodes/{id}/drain", RoleOperator, 0}, {"POST /api/v1/nodes/{id}/undrain", RoleOperator, 0},
		{"DELETE /api/v1/nodes/{id}", RoleAdmin, 0}, {"POST /api/v1/nodes/{id}/replace/{with}", RoleAdmin, 0},
		{"GET /api/v1/groups", RoleViewer, 0}, {"GET /api/v1/groups/{id}", RoleViewer, 0},
		{"POST /api/v1/groups/{id}/transfer", RoleOperator, 0}, {"POST /api/v1/rebalance", RoleOperator, 0},
		{"GET /api/v1/operations", RoleViewer, 0}, {"GET /api/v1/operations/{id}", RoleViewer, 0},
		{"DELETE /api/v1/operations/{id}", RoleOperator, 0},

		{"GET /api/v1/clients", RoleViewer, 0}, {"GET /api/v1/clients/{id}", RoleViewer, 0},
		{"DELETE /api/v1/clients/{id}", RoleOperator, 0},
		{"GET /api/v1/sessions", RoleViewer, 0}, {"GET /api/v1/sessions/{id}", RoleViewer, 0},
		{"DELETE /api/v1/sessions/{id}", RoleOperator, 0}, {"GET /api/v1/sessions/{id}/inbox", RoleOperator, 0},
		{"GET /api/v1/subscriptions", RoleViewer, 0},
		{"GET /api/v1/shares", RoleViewer, 0}, {"GET /api/v1/shares/{id}", RoleViewer, 0},
		{"GET /api/v1/retained", RoleViewer, 0}, {"GET /api/v1/retained/{id}", RoleOperator, 0},
		{"DELETE /api/v1/retained", RoleOperator, 0},
		{"POST /api/v1/messages", RoleOperator, 0},
		{"GET /api/v1/alarms", RoleViewer, 0},
		{"GET /api/v1/backup", RoleAdmin, keyed | audited}, {"POST /api/v1/restore", RoleAdmin, keyed},
		{"POST /api/v1/verify", RoleOperator, 0}, {"GET /api/v1/debug/nodes/{id}", RoleAdmin, keyed | audited},

		{"GET /api/v1/join-tokens", RoleOperator, 0}, {"POST /api/v1/join-tokens", RoleAdmin, 0},
		{"DELETE /api/v1/join-tokens/{id}", RoleAdmin, 0},
		{"GET /api/v1/apikeys", RoleAdmin, 0}, {"GET /api/v1/apikeys/{id}", RoleAdmin, 0},
		{"POST /api/v1/apikeys", RoleAdmin, keyed}, {"DELETE /api/v1/apikeys/{id}", RoleAdmin, 0},
		{"GET /api/v1/audit", RoleAdmin, 0},

		{"GET /api/v1/events", RoleViewer, 0},
		{"GET /api/v1/explain/topic/{topic}", RoleViewer, 0}, {"GET /api/v1/explain/client/{id}", RoleViewer, 0},
		{"GET /api/v1/settings", RoleViewer, 0}, {"PATCH /api/v1/settings", RoleAdmin, 0},
		{"GET /api/v1/loggers", RoleViewer, 0}, {"PUT /api/v1/loggers/{name}", RoleOperator, 0},
		{"GET /api/v1/listeners", RoleViewer, 0},
		{"POST /api/v1/listeners/{node}/{name}/pause", RoleOperator, 0}, {"POST /api/v1/listeners/{node}/{name}/resume", RoleOperator, 0},
		{"POST /api/v1/clients/kick", RoleOperator, 0},
	}
}

// routeMux is a mux that remembers what was registered.
type routeMux struct {
	*http.ServeMux
	patterns []string
}

// Handle registers a route.
func (m *routeMux) Handle(pattern string, h http.Handler) {
	m.patterns = append(m.patterns, pattern)
	m.ServeMux.Handle(pattern, exchanging(h))
}

// HandleFunc registers a route.
func (m *routeMux) HandleFunc(pattern string, h func(http.ResponseWriter, *http.Request)) {
	m.Handle(pattern, http.HandlerFunc(h))
}

// accessRows are the rows by pattern. A route without a row is an error.
func accessRows(patterns []string) (map[string]accessRow, error) {
	rows := map[string]accessRow{}
	for _, row := range accessTable() {
		if _, twice := rows[row.pattern]; twice {
			return nil, fmt.Errorf("api: route %q has two rows in accessTable", row.pattern)
		}
		rows[row.pattern] = row
	}
	for _, p := range patterns {
		if _, ok := rows[p]; !ok {
			return nil, fmt.Errorf("api: route %q has no row in accessTable: say there who may call it", p)
		}
	}
	return rows, nil
}

// unused are the rows that belong to no route.
func unused(patterns []string) (out []string) {
	for _, row := range accessTable() {
		if !slices.Contains(patterns, row.pattern) {
			out = append(out, row.pattern)
		}
	}
	return out
}
