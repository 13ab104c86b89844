package main

import (
	"context"

	"github.com/flotilla-mqtt/flotilla/api/client"
	"github.com/flotilla-mqtt/flotilla/cluster"
)

// Verify implements api.Verifier.
func (a *nodeAPI) Verify(ctx context.Context, r client.VerifyRequest) (client.Verification, error) {
	v, err := a.n.Verify(ctx, cluster.VerifyOptions{Groups: r.Groups, Deep: r.Deep})
	if err != nil {
		return client.Verification{}, memberError(err)
	}
	out := client.Verification{Equal: v.Equal, Deep: v.Deep, Groups: make([]client.VerifyGroup, len(v.Groups))}
	for i, g := range v.Groups {
		out.Groups[i] = client.VerifyGroup{ID: g.ID, Kind: g.Kind, Index: g.Index, Equal: g.Equal, Detail: g.Detail}
		for _, r := range g.Replicas {
			out.Groups[i].Replicas = append(out.Groups[i].Replicas, client.VerifyReplica(r))
		}
	}
	return out, nil
}
