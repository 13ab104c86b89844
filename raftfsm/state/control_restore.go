package state

import (
	"strings"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// keyRestoring is the control machine's record of a restore under way.
const keyRestoring = 'V'

// applyRestoring moves the restore of the cluster to a phase.
func (c *Control) applyRestoring(r *command.Restoring) command.ResultCode {
	v := c.current()
	if r.ID == "" || !v.Formed() {
		return command.Invalid
	}
	have := v.Restore
	switch r.Phase {
	case command.RestoreStaging:
		if have != nil && have.Phase != command.RestoreStaging {
			return command.Invalid // too late to begin anew
		}
		if have != nil && *have == *r {
			return command.Duplicate
		}
	case command.RestoreOpening, command.RestoreClearing:
		if have == nil || have.ID != r.ID {
			return command.Invalid
		}
		if have.Phase == r.Phase {
			return command.Duplicate
		}
		if have.Phase != command.RestoreStaging {
			return command.Invalid
		}
	case command.RestoreEnded:
		if have == nil {
			return command.Duplicate
		}
		if have.ID != r.ID || have.Phase == command.RestoreStaging {
			return command.Invalid
		}
		c.edit().Restore = nil
		return command.OK
	default:
		return command.Invalid
	}
	next := cloneRestoring(r)
	if r.Phase != command.RestoreStaging {
		next.Backup, next.Node = have.Backup, have.Node
	}
	c.edit().Restore = &next
	return command.OK
}

func cloneRestoring(r *command.Restoring) command.Restoring {
	return command.Restoring{ID: strings.Clone(r.ID), Phase: r.Phase, Backup: strings.Clone(r.Backup), Node: strings.Clone(r.Node)}
}

func readRestoring(v *ControlView, _, val []byte) error {
	var r command.Restoring
	if err := r.Decode(val); err != nil {
		return err
	}
	r = cloneRestoring(&r)
	v.Restore = &r
	return nil
}

// ControlRestore is the command that brings a record of the control machine of another cluster back, if it is one that
// comes back: settings and API keys. rank says in which order they are to be proposed, 0 that it is none: the first key
// of all must be one that can make others.
func ControlRestore(k, v []byte) (cmd []byte, rank int) {
	if len(k) < 2 {
		return nil, 0
	}
	switch k[0] {
	case keySetting:
		return command.AppendSet(nil, &command.Set{Setting: command.Setting{Key: string(k[1:]), Value: string(v)}}), 1
	case keyAPIKey:
		var key command.APIKey
		if key.Decode(v) != nil {
			return nil, 0
		}
		rank = 3
		if key.Role == command.RoleAdmin {
			rank = 2
		}
		return command.AppendPutAPIKey(nil, &command.PutAPIKey{Key: key}), rank
	}
	return nil, 0
}
