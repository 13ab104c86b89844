package client

import "context"

// PathDebugNodes has a node's part of a debug bundle.
const PathDebugNodes = "/api/v1/debug/nodes"

// DebugNode is one node's part of a debug bundle.
type DebugNode struct {
	Node  string      `json:"node"`
	Files []DebugFile `json:"files" nullable:"false"`
}

// DebugFile is one file of it.
type DebugFile struct {
	Name string `json:"name" doc:"Path below the node's directory."`
	Data []byte `json:"data,omitempty" doc:"Contents, base64."`
	// Error says why it is missing or cut.
	Error string `json:"error,omitempty"`
}

// DebugNode asks for the part of one node.
func (c *Client) DebugNode(ctx context.Context, node string) (DebugNode, error) {
	return get[DebugNode](ctx, c, One(PathDebugNodes, node))
}
