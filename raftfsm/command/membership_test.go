package command

// membershipSamples are the commands that concern membership, for TestGolden.
func membershipSamples() []sample {
	hash := make([]byte, 32)
	hash[0], hash[31] = 1, 2
	token := PutToken{Token: JoinToken{ID: "t-1", Hash: hash, ExpiresAt: 1_790_000_000_000, Uses: 3}}
	drop := DropToken{ID: "t-1"}
	admit := Admit{Node: Node{ID: "n4", ClusterAddr: "10.0.0.4:7400", Roles: []string{"store"}, Zone: "a"}, TokenHash: hash}
	op := PutOperation{Operation: Operation{
		ID: "op-1", Kind: "replace", Node: "n1", Other: "n4", State: OperationRunning, Progress: "moves replicas", Done: 1, Total: 8,
		Error: "none", StartedAt: 5, UpdatedAt: 6,
	}}
	return []sample{
		{"put-token", KindPutToken, AppendPutToken(nil, &token), token, decoded[PutToken]},
		{"drop-token", KindDropToken, AppendDropToken(nil, &drop), drop, decoded[DropToken]},
		{"admit", KindAdmit, AppendAdmit(nil, &admit), admit, decoded[Admit]},
		{"put-operation", KindPutOperation, AppendPutOperation(nil, &op), op, decoded[PutOperation]},
	}
}
