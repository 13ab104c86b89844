package api

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

// Debugger gathers what those need who look for the cause of something.
type Debugger interface {
	// DebugNode is one node's part of a debug bundle, wherever that node is. No payloads, no secrets. ErrNotFound, ErrNodeUnreachable.
	DebugNode(ctx context.Context, node string) (client.DebugNode, error)
}

func (s *Server) debugNodeRoutes(a huma.API) {
	op := operation("debug-node", "/debug/nodes/{id}", "One node's part of a debug bundle", 404, 502)
	op.Description = "Status, configuration without secrets, metrics, profiles and the last log lines of a node, as files. flotilla debug bundle makes one archive of all nodes."
	answer(s, a, op, func(ctx context.Context, in *idInput) (client.DebugNode, error) {
		out, err := s.opt.Node.DebugNode(ctx, in.ID)
		out.Files = filled(out.Files)
		return out, err
	})
}
