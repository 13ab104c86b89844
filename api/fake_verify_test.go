package api

import (
	"context"
	"fmt"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

func (f *fakeNode) Verify(_ context.Context, r client.VerifyRequest) (client.Verification, error) {
	for _, g := range r.Groups {
		if g > 1 {
			return client.Verification{}, fmt.Errorf("group %d: %w", g, ErrNotFound)
		}
	}
	return client.Verification{Equal: true, Deep: r.Deep, Groups: []client.VerifyGroup{{ID: 1, Kind: "shard", Index: 7, Equal: true}}}, nil
}

func (f *fakeNode) DebugNode(_ context.Context, node string) (client.DebugNode, error) {
	if node != "n1" {
		return client.DebugNode{}, fmt.Errorf("node %s: %w", node, ErrNotFound)
	}
	return client.DebugNode{Node: node, Files: []client.DebugFile{{Name: "version.txt", Data: []byte("1")}}}, nil
}
