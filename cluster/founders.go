package cluster

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// Founders of a cluster share a secret, made by flotilla cluster token generate.
// A node that has one believes only answers that come with a proof of it: an
// HMAC over the nonce of the question and over what the answer says. The secret
// itself is not sent. The founding leader keeps its hash as a join token, so that
// nodes that come later, or in the place of a lost one, can join with it.

// foundersUses is how many nodes may join with the founders' secret; it is
// revoked like any other token.
const foundersUses = 1000

// prove is the proof for an answer to a question with this nonce, "" without secret.
func (h *hello) prove(secret, nonce string) string {
	if secret == "" || nonce == "" {
		return ""
	}
	said := *h
	said.Nonce, said.Proof, said.Token = "", "", ""
	raw, err := json.Marshal(&said)
	if err != nil {
		return ""
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("flotilla founders 1\x00" + nonce + "\x00"))
	mac.Write(raw)
	return hex.EncodeToString(mac.Sum(nil))
}

// believe says whether an answer to a question with this nonce may be used to
// form a cluster.
func (f *formation) believe(answer *hello, nonce string) bool {
	if f.cfg.JoinToken == "" {
		return true
	}
	if hmac.Equal([]byte(answer.Proof), []byte(answer.prove(f.cfg.JoinToken, nonce))) {
		return true
	}
	if f.doubted == nil {
		f.doubted = map[string]bool{}
	}
	if id := answer.Self.ID; !f.doubted[id] && len(f.doubted) < 100 {
		f.doubted[id] = true
		f.lg.Warn("a node does not prove that it has the same join token: it is not counted", zap.String("event", "node.joining"), zap.String("peer", id), zap.String("addr", answer.Self.Addr))
	}
	return false
}

// needsSecret refuses to form a cluster that anybody who reaches the port could
// take part in.
func (c *Config) needsSecret(id *identity) error {
	host := c.AdvertiseAddr
	if host == "" {
		host = c.ClusterAddr
	}
	if id.Formed || c.BootstrapExpect <= 1 || c.JoinToken != "" || c.InsecureCluster || isLoopback(hostOf(host)) {
		return nil
	}
	return fmt.Errorf("%w: bootstrap-expect %d beyond loopback needs a secret that the founders share: make one with flotilla cluster token generate, and give all of them --join-token-file", ErrConfig, c.BootstrapExpect)
}

// appendSecret adds the command that keeps the founders' secret as a join token.
func (c *Config) appendSecret(dst []byte) []byte {
	if c.JoinToken == "" || c.BootstrapExpect <= 1 {
		return dst
	}
	sum := sha256.Sum256([]byte(c.JoinToken))
	return command.AppendPutToken(dst, &command.PutToken{Token: command.JoinToken{ID: tokenID(sum[:]), Hash: sum[:], Uses: foundersUses}})
}

// tokenID is what operators see of a join token.
func tokenID(hash []byte) string { return "t-" + hex.EncodeToString(hash[:4]) }

// late says that an answer comes from a cluster that this node is no founder of:
// who is asked to join judges the token himself.
func (f *formation) late(answer *hello) bool {
	return f.id.Agreed == nil && answer.Formed && answer.Agreed != nil && !answer.Agreed.has(f.id.NodeID)
}
