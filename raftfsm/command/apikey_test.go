package command

// keySamples are the commands that concern API keys, for TestGolden.
func keySamples() []sample {
	hash := make([]byte, 32)
	hash[0], hash[31] = 1, 2
	put := PutAPIKey{Key: APIKey{
		ID: "k-1", Name: "grafana", Hash: hash, Role: RoleOperator, Scopes: []string{"metrics", "x"}, CreatedAt: 1_700_000_000_123,
		ExpiresAt: 1_790_000_000_000, CreatedBy: "key:root",
	}}
	drop := DropAPIKey{ID: "k-1"}
	return []sample{
		{"put-api-key", KindPutAPIKey, AppendPutAPIKey(nil, &put), put, decoded[PutAPIKey]},
		{"drop-api-key", KindDropAPIKey, AppendDropAPIKey(nil, &drop), drop, decoded[DropAPIKey]},
	}
}
