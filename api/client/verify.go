package client

import (
	"context"
	"net/http"
)

// PathVerify compares replicas.
const PathVerify = "/api/v1/verify"

// VerifyRequest says what is compared.
type VerifyRequest struct {
	// Deep also reads every stored record on every replica.
	Deep bool `json:"deep,omitempty" doc:"Read every stored record, too; takes as long as the disks need."`
	// Groups are the groups to look at; none means all.
	Groups []uint32 `json:"groups,omitempty" nullable:"false" doc:"Groups to compare; none means all."`
}

// Verification is what a comparison of all replicas found.
type Verification struct {
	Equal  bool          `json:"equal" doc:"Every replica of every group answered, and all agree."`
	Deep   bool          `json:"deep"`
	Groups []VerifyGroup `json:"groups" nullable:"false"`
}

// VerifyGroup is one group of it.
type VerifyGroup struct {
	ID       uint32          `json:"id"`
	Kind     string          `json:"kind" doc:"control or shard"`
	Index    uint64          `json:"index" doc:"The log index at which the replicas were compared; 0 if they could not be."`
	Equal    bool            `json:"equal"`
	Detail   string          `json:"detail,omitempty"`
	Replicas []VerifyReplica `json:"replicas" nullable:"false"`
}

// VerifyReplica is one replica of a group.
type VerifyReplica struct {
	Node   string `json:"node"`
	State  string `json:"state" doc:"equal; differs: from most others, or from all; damaged: stored records do not fit; unreachable; behind"`
	Digest string `json:"digest,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// Verify compares the replicas of all groups.
func (c *Client) Verify(ctx context.Context, r VerifyRequest) (Verification, error) {
	return decode[Verification](c.Raw(ctx, http.MethodPost, PathVerify, nil, r))
}
