package cluster

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// Join tokens: a token is shown once; the control group keeps its hash. Any node makes one, the control leader commits it.

// TokenStatus is a join token as operators see it. Secret is set once, when it was made.
type TokenStatus struct {
	ID        string     `json:"id"`
	Secret    string     `json:"token,omitempty"`
	Uses      uint32     `json:"uses"`
	ExpiresAt *time.Time `json:"expires_at"`
}

// CreateToken makes a join token that lets uses nodes in within ttl (0: for ever). The secret is shown this once.
func (n *Node) CreateToken(ctx context.Context, uses uint32, ttl time.Duration) (TokenStatus, error) {
	secret, err := NewJoinSecret()
	if err != nil {
		return TokenStatus{}, err
	}
	sum := sha256.Sum256([]byte(secret))
	reply, err := n.askControl(ctx, memberRequest{Do: memberToken, ID: "t-" + hex.EncodeToString(sum[:4]), TokenHash: sum[:], Uses: uses, TTL: ttl})
	if err != nil {
		return TokenStatus{}, err
	}
	reply.Token.Secret = secret
	return *reply.Token, nil
}

// RevokeToken takes a join token back.
func (n *Node) RevokeToken(ctx context.Context, id string) error {
	_, err := n.askControl(ctx, memberRequest{Do: memberRevoke, ID: id})
	return err
}

// Tokens are the join tokens that are known here and, by this node's clock, have not expired. A used up one stays until then.
func (n *Node) Tokens() []TokenStatus {
	v, now := n.control.view(), n.now()
	out := make([]TokenStatus, 0, len(v.Tokens))
	for _, id := range sortedKeys(v.Tokens) {
		if t := v.Tokens[id]; t.ExpiresAt == 0 || t.ExpiresAt > now {
			out = append(out, tokenStatus(t))
		}
	}
	return out
}

// NewJoinSecret makes the secret of a join token: 192 random bits.
func NewJoinSecret() (string, error) {
	b := make([]byte, 24)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	return "flotilla-" + base64.RawURLEncoding.EncodeToString(b), nil
}

func (c *control) makeToken(ctx context.Context, l *controlLead, req memberRequest) (memberReply, error) {
	t := command.JoinToken{ID: req.ID, Hash: req.TokenHash, Uses: max(1, req.Uses)}
	if req.TTL > 0 {
		t.ExpiresAt = c.n.now() + req.TTL.Milliseconds()
	}
	code, err := l.commit(ctx, command.AppendPutToken(nil, &command.PutToken{Token: t}))
	if err != nil {
		return memberReply{}, err
	}
	if code != command.OK {
		return memberReply{}, refuse(GuardConflict, "the token could not be stored: %s", code)
	}
	st := tokenStatus(&t)
	return memberReply{Token: &st}, nil
}

func tokenStatus(t *command.JoinToken) TokenStatus {
	out := TokenStatus{ID: t.ID, Uses: t.Uses}
	if t.ExpiresAt != 0 {
		at := time.UnixMilli(t.ExpiresAt).UTC()
		out.ExpiresAt = &at
	}
	return out
}
