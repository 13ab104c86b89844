package cluster

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// controlEvents says what changed between two states of the control group. It is a
// function of the two, in a fixed order: every node comes to the same list.
func controlEvents(before, after *state.ControlView) []Event {
	if !before.Formed() {
		if !after.Formed() {
			return nil
		}
		return []Event{{Type: "cluster.formed", Data: map[string]any{"cluster_id": after.ClusterID}}}
	}
	var out []Event
	for _, id := range sortedKeys(after.Nodes) {
		out = append(out, nodeEvents(id, before.Nodes[id], after.Nodes[id])...)
	}
	out = append(out, operationEvents(before, after)...)
	out = append(out, settingEvents(before.Settings, after.Settings)...)
	out = append(out, tokenEvents(before.Tokens, after.Tokens)...)
	out = append(out, keyEvents(before.APIKeys, after.APIKeys)...)
	return append(out, placementEvents(before.Placement, after.Placement)...)
}

func nodeEvents(id string, old, now *state.NodeInfo) (out []Event) {
	add := func(name string, data map[string]any) { out = append(out, Event{Type: name, Node: id, Data: data}) }
	if old == nil {
		add("node.joining", map[string]any{"addr": now.ClusterAddr})
		old = &state.NodeInfo{State: now.State}
	}
	switch {
	case now.Up && now.Incarnation != old.Incarnation:
		add("node.up", map[string]any{"incarnation": now.Incarnation, "version": now.Version})
	case old.Up && !now.Up && now.State != command.NodeRemoved:
		add("node.down", map[string]any{"incarnation": now.Incarnation})
	}
	if now.State == old.State {
		return out
	}
	switch now.State {
	case command.NodeReady:
		if old.State == command.NodeJoining {
			add("node.promoted", nil)
		} else {
			add("node.ready", nil)
		}
	case command.NodeDraining, command.NodeDrained, command.NodeRemoving, command.NodeRemoved:
		add("node."+now.State.String(), nil)
	}
	return out
}

func operationEvents(before, after *state.ControlView) (out []Event) {
	for i := range after.Operations {
		now := &after.Operations[i]
		old, existed := before.Operation(now.ID)
		name := "operation.progress"
		switch {
		case !existed && now.State == command.OperationRunning:
			name = "operation.started"
		case now.State != old.State:
			name = "operation." + now.State.String()
		case now.Progress == old.Progress && now.Done == old.Done && now.Total == old.Total:
			continue
		}
		data := map[string]any{"kind": now.Kind, "done": now.Done, "total": now.Total}
		if now.Error != "" {
			data["error"] = now.Error
		}
		out = append(out, Event{Type: name, Node: now.Node, Operation: now.ID, Message: now.Progress, Data: data})
	}
	return out
}

func settingEvents(before, after map[string]string) (out []Event) {
	keys := map[string]bool{}
	for k := range before {
		keys[k] = true
	}
	for k := range after {
		keys[k] = true
	}
	for _, k := range sortedKeys(keys) {
		if before[k] != after[k] && !strings.HasPrefix(k, formedPrefix) {
			out = append(out, Event{Type: "settings.changed", Data: map[string]any{"key": k, "from": before[k], "to": after[k]}})
		}
	}
	return out
}

func tokenEvents(before, after map[string]*command.JoinToken) (out []Event) {
	for _, id := range sortedKeys(after) {
		data := map[string]any{"token": id, "uses": after[id].Uses}
		switch old := before[id]; {
		case old == nil:
			out = append(out, Event{Type: "token.created", Data: data})
		case after[id].Uses < old.Uses:
			out = append(out, Event{Type: "token.used", Data: data})
		}
	}
	for _, id := range sortedKeys(before) {
		if after[id] == nil {
			out = append(out, Event{Type: "token.revoked", Data: map[string]any{"token": id}})
		}
	}
	return out
}

// keyEvents tells of API keys by their ids and names, which are no secrets.
func keyEvents(before, after map[string]*command.APIKey) (out []Event) {
	for _, id := range sortedKeys(after) {
		if k := after[id]; before[id] == nil {
			data := map[string]any{"key": id, "name": k.Name, "role": k.Role.String()}
			if len(k.Scopes) > 0 {
				data["scopes"] = k.Scopes
			}
			if k.ExpiresAt != 0 {
				data["expires_at"] = time.UnixMilli(k.ExpiresAt).UTC()
			}
			out = append(out, Event{Type: "apikey.created", Data: data})
		}
	}
	for _, id := range sortedKeys(before) {
		if after[id] == nil {
			out = append(out, Event{Type: "apikey.revoked", Data: map[string]any{"key": id, "name": before[id].Name}})
		}
	}
	return out
}

// placementEvents tells of replicas that are to be made. That one votes, and that one
// is gone, is told by the leader of its group.
func placementEvents(before, after map[uint32][]string) (out []Event) {
	for _, shard := range slices.Sorted(maps.Keys(after)) {
		for _, node := range after[shard] {
			if len(before[shard]) > 0 && !contains(before[shard], node) {
				out = append(out, Event{Type: "raft.replica_added", Node: node, Group: &shard})
			}
		}
	}
	return out
}
