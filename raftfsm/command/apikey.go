package command

import "slices"

// The commands of the control group that concern who may use the admin API.
const (
	KindPutAPIKey  Kind = 74
	KindDropAPIKey Kind = 75
)

// Role is what the bearer of an API key may do. A higher one may do all that a
// lower one may. Numbers are append-only.
type Role uint32

// The roles.
const (
	RoleViewer   Role = 1
	RoleOperator Role = 2
	RoleAdmin    Role = 3
)

// String is the name of the role in the API.
func (r Role) String() string {
	switch r {
	case RoleViewer:
		return "viewer"
	case RoleOperator:
		return "operator"
	case RoleAdmin:
		return "admin"
	}
	return "invalid"
}

// APIKey is a permission to use the admin API, as the cluster keeps it: never
// the secret itself.
type APIKey struct {
	// ID is shown to operators; it tells nothing of the secret.
	ID string
	// Name is what its maker called it; no two keys have the same.
	Name string
	// Hash is the SHA-256 of the key.
	Hash []byte
	Role Role
	// Scopes, if there are any, are all that the key is good for.
	Scopes []string
	// CreatedAt and ExpiresAt are in unix ms of the proposer's clock; 0 as the
	// expiry is never.
	CreatedAt, ExpiresAt int64
	// CreatedBy is who asked for it.
	CreatedBy string
}

// Full says that the key may do all that its role may.
func (k *APIKey) Full() bool { return len(k.Scopes) == 0 }

// PutAPIKey adds a key. Results: OK; Duplicate (the id, the name or the secret
// is in use); Full (there are too many); Denied (the first key must be an
// administrator's, or nobody could make another); Invalid.
type PutAPIKey struct {
	Key APIKey
}

// DropAPIKey takes a key back. Results: OK; NoMatch; Denied (it is the last one
// of an administrator, and others would remain).
type DropAPIKey struct {
	ID string
}

// Append adds the record: 1 id, 2 name, 3 hash, 4 role, 5 scope (repeated), 6
// made at, 7 expiry, 8 made by. Stores share it.
func (k *APIKey) Append(dst []byte) []byte {
	dst = putString(dst, 1, k.ID)
	dst = putString(dst, 2, k.Name)
	dst = putBytes(dst, 3, k.Hash)
	dst = putUint(dst, 4, uint64(k.Role))
	dst = putStrings(dst, 5, k.Scopes)
	dst = putUint(dst, 6, uint64(k.CreatedAt))
	dst = putUint(dst, 7, uint64(k.ExpiresAt))
	return putString(dst, 8, k.CreatedBy)
}

// Decode reads what Append wrote. It aliases b.
func (k *APIKey) Decode(b []byte) error {
	*k = APIKey{}
	f := fields{b: b}
	for f.next() {
		switch f.num {
		case 1:
			k.ID = f.string()
		case 2:
			k.Name = f.string()
		case 3:
			k.Hash = f.bytes()
		case 4:
			k.Role = Role(f.u32())
		case 5:
			k.Scopes = append(k.Scopes, f.string())
		case 6:
			k.CreatedAt = int64(f.uint())
		case 7:
			k.ExpiresAt = int64(f.uint())
		case 8:
			k.CreatedBy = f.string()
		}
	}
	return f.err("api key")
}

// Same says that two keys are alike in all that a store keeps.
func (k *APIKey) Same(o *APIKey) bool {
	return k.ID == o.ID && k.Name == o.Name && slices.Equal(k.Hash, o.Hash) && k.Role == o.Role && slices.Equal(k.Scopes, o.Scopes) &&
		k.CreatedAt == o.CreatedAt && k.ExpiresAt == o.ExpiresAt && k.CreatedBy == o.CreatedBy
}

// AppendPutAPIKey adds the command. Its fields are those of APIKey.
func AppendPutAPIKey(dst []byte, c *PutAPIKey) []byte {
	dst, mark := begin(dst, KindPutAPIKey)
	return closeAt(c.Key.Append(dst), mark)
}

// Decode reads the payload of a put-api-key command. It aliases b.
func (c *PutAPIKey) Decode(b []byte) error { return c.Key.Decode(b) }

// AppendDropAPIKey adds the command. Field: 1 id.
func AppendDropAPIKey(dst []byte, c *DropAPIKey) []byte {
	dst, mark := begin(dst, KindDropAPIKey)
	return closeAt(putString(dst, 1, c.ID), mark)
}

// Decode reads the payload of a drop-api-key command. It aliases b.
func (c *DropAPIKey) Decode(b []byte) error {
	*c = DropAPIKey{}
	f := fields{b: b}
	for f.next() {
		if f.num == 1 {
			c.ID = f.string()
		}
	}
	return f.err("drop-api-key")
}
