package main

import (
	"context"
	"fmt"

	"github.com/flotilla-mqtt/flotilla/api"
	"github.com/flotilla-mqtt/flotilla/api/client"
)

// A paperNode that lacks something has a replica that differs.
func (p paperNode) Verify(_ context.Context, r client.VerifyRequest) (client.Verification, error) {
	v := client.Verification{Equal: true, Deep: r.Deep, Groups: []client.VerifyGroup{
		{ID: 0, Kind: "control", Index: 99, Equal: true, Replicas: []client.VerifyReplica{
			{Node: "n1", State: "equal", Digest: "00112233445566778899aabbccddeeff"}, {Node: "n2", State: "equal", Digest: "00112233445566778899aabbccddeeff"},
		}},
		{ID: 1, Kind: "shard", Index: 12, Equal: true, Replicas: []client.VerifyReplica{
			{Node: "n1", State: "equal", Digest: "aa112233445566778899aabbccddeeff"}, {Node: "n2", State: "equal", Digest: "aa112233445566778899aabbccddeeff"},
		}},
	}}
	if p.lack != 0 {
		v.Equal, v.Groups[1].Equal = false, false
		v.Groups[1].Replicas[1] = client.VerifyReplica{Node: "n2", State: "differs", Digest: "bb112233445566778899aabbccddeeff"}
	}
	return v, nil
}

func (p paperNode) DebugNode(_ context.Context, node string) (client.DebugNode, error) {
	switch {
	case node != "n1" && node != "n2":
		return client.DebugNode{}, fmt.Errorf("node %s: %w", node, api.ErrNotFound)
	case node == "n2" && p.lack != 0:
		return client.DebugNode{}, fmt.Errorf("node n2: %w", api.ErrNodeUnreachable)
	}
	return client.DebugNode{Node: node, Files: []client.DebugFile{
		{Name: "version.json", Data: []byte("{}\n")}, {Name: "heap.pb.gz", Error: "too large"},
	}}, nil
}
