package state

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"strings"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// maxAPIKeys bounds what every node has in memory.
const maxAPIKeys = 1000

// applyPutAPIKey adds a key. A proposer that does not know the outcome sends the
// same again, which changes nothing and is OK.
func (c *Control) applyPutAPIKey(p *command.PutAPIKey) command.ResultCode {
	k := &p.Key
	if k.ID == "" || k.Name == "" || len(k.Hash) != sha256.Size || k.Role < command.RoleViewer || k.Role > command.RoleAdmin {
		return command.Invalid
	}
	v := c.current()
	for id, have := range v.APIKeys {
		if have.Same(k) {
			return command.OK
		}
		if id == k.ID || have.Name == k.Name || bytes.Equal(have.Hash, k.Hash) {
			return command.Duplicate
		}
	}
	switch {
	case len(v.APIKeys) >= maxAPIKeys:
		return command.Full
	case len(v.APIKeys) == 0 && !c.rules(k):
		return command.Denied // from now on a key is needed, and this one could not make another
	}
	kept := cloneAPIKey(k)
	c.edit().APIKeys[kept.ID] = &kept
	return command.OK
}

// applyDropAPIKey takes a key back. The last one of all may go, which opens the
// API as it was before the first; the last one that can make others may not.
func (c *Control) applyDropAPIKey(d *command.DropAPIKey) command.ResultCode {
	v := c.current()
	k := v.APIKeys[d.ID]
	if k == nil {
		return command.NoMatch
	}
	if c.rules(k) && len(v.APIKeys) > 1 {
		left := 0
		for id, other := range v.APIKeys {
			if id != d.ID && c.rules(other) {
				left++
			}
		}
		if left == 0 {
			return command.Denied
		}
	}
	delete(c.edit().APIKeys, d.ID)
	return command.OK
}

// rules says that a key can make and take back others, by the group's clock.
func (c *Control) rules(k *command.APIKey) bool {
	return k.Role == command.RoleAdmin && k.Full() && (k.ExpiresAt == 0 || k.ExpiresAt > c.clock)
}

func cloneAPIKey(k *command.APIKey) command.APIKey {
	c := *k
	c.ID, c.Name, c.CreatedBy, c.Hash = strings.Clone(k.ID), strings.Clone(k.Name), strings.Clone(k.CreatedBy), bytes.Clone(k.Hash)
	c.Scopes = slices.Clone(k.Scopes)
	for i := range c.Scopes {
		c.Scopes[i] = strings.Clone(c.Scopes[i])
	}
	return c
}

func readAPIKey(v *ControlView, k, val []byte) error {
	var key command.APIKey
	if err := key.Decode(val); err != nil {
		return err
	}
	key = cloneAPIKey(&key)
	v.APIKeys[string(k[1:])] = &key
	return nil
}
