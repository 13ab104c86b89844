package state

import (
	"bytes"
	"slices"
	"strings"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// maxOperations is how many operations are kept, those that have ended included.
const maxOperations = 100

// applyPutToken adds a join token. Those that have expired go, by the group's clock.
func (c *Control) applyPutToken(p *command.PutToken) command.ResultCode {
	v := c.current()
	if p.Token.ID == "" || len(p.Token.Hash) == 0 || p.Token.Uses == 0 {
		return command.Invalid
	}
	for id, t := range v.Tokens { // a secret names one token
		if id == p.Token.ID || bytes.Equal(t.Hash, p.Token.Hash) {
			return command.Duplicate
		}
	}
	e := c.edit()
	for id, t := range e.Tokens {
		if t.ExpiresAt != 0 && t.ExpiresAt <= c.clock {
			delete(e.Tokens, id)
		}
	}
	t := cloneToken(&p.Token)
	e.Tokens[t.ID] = &t
	return command.OK
}

func (c *Control) applyDropToken(d *command.DropToken) command.ResultCode {
	if c.current().Tokens[d.ID] == nil {
		return command.NoMatch
	}
	delete(c.edit().Tokens, d.ID)
	return command.OK
}

// applyAdmit lets a new node in (I25, I31). An id is given once: whoever had it and
// comes with an empty disk has lost votes that others may count on.
func (c *Control) applyAdmit(a *command.Admit) command.ResultCode {
	v := c.current()
	if a.Node.ID == "" || !v.Formed() {
		return command.Invalid
	}
	if old := v.Nodes[a.Node.ID]; old != nil {
		if old.Incarnation != 0 || old.State != command.NodeJoining {
			return command.Invalid
		}
		if len(a.TokenHash) > 0 && !c.knowsToken(a.TokenHash) {
			return command.Denied // somebody else, who has guessed its id
		}
		n := *old
		n.Node = cloneNode(&a.Node)
		c.edit().Nodes[n.ID] = &n
		return command.Duplicate
	}
	if len(a.TokenHash) > 0 && !c.useToken(a.TokenHash) {
		return command.Denied
	}
	n := &NodeInfo{Node: cloneNode(&a.Node), State: command.NodeJoining}
	c.edit().Nodes[n.ID] = n
	return command.OK
}

// knowsToken says that there is a token with a hash, used up or not.
func (c *Control) knowsToken(hash []byte) bool {
	for _, t := range c.current().Tokens {
		if bytes.Equal(t.Hash, hash) && (t.ExpiresAt == 0 || t.ExpiresAt > c.clock) {
			return true
		}
	}
	return false
}

// useToken takes one use of the token with a hash.
func (c *Control) useToken(hash []byte) bool {
	for id, t := range c.current().Tokens {
		if !bytes.Equal(t.Hash, hash) {
			continue
		}
		if t.Uses == 0 || t.ExpiresAt != 0 && t.ExpiresAt <= c.clock {
			return false
		}
		used := *t
		used.Uses--
		c.edit().Tokens[id] = &used
		return true
	}
	return false
}

func (c *Control) applyPutOperation(p *command.PutOperation) command.ResultCode {
	o := &p.Operation
	if o.ID == "" || o.State < command.OperationRunning || o.State > command.OperationCancelled {
		return command.Invalid
	}
	v := c.current()
	if run, ok := v.Running(); ok && run.ID != o.ID && o.State == command.OperationRunning {
		return command.Full
	}
	list := slices.Clone(v.Operations)
	at, found := slices.BinarySearchFunc(list, o.ID, func(have command.Operation, id string) int { return strings.Compare(have.ID, id) })
	if found {
		list[at] = cloneOperation(o)
	} else {
		list = slices.Insert(list, at, cloneOperation(o))
	}
	for i := 0; len(list) > maxOperations && i < len(list); {
		if list[i].State == command.OperationRunning || list[i].ID == o.ID {
			i++
			continue
		}
		list = slices.Delete(list, i, i+1)
	}
	c.edit().Operations = list
	return command.OK
}

func cloneToken(t *command.JoinToken) command.JoinToken {
	return command.JoinToken{ID: strings.Clone(t.ID), Hash: bytes.Clone(t.Hash), ExpiresAt: t.ExpiresAt, Uses: t.Uses}
}

func cloneOperation(o *command.Operation) command.Operation {
	c := *o
	c.ID, c.Kind, c.Node, c.Other = strings.Clone(o.ID), strings.Clone(o.Kind), strings.Clone(o.Node), strings.Clone(o.Other)
	c.Progress, c.Error = strings.Clone(o.Progress), strings.Clone(o.Error)
	return c
}
