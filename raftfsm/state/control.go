package state

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/router"
)

// Control is the machine of the control group. Its state is small: every entry
// that changes something makes a new immutable view.
type Control struct {
	view atomic.Pointer[ControlView]

	mu sync.RWMutex
	// Below mu; changed by the apply goroutine alone.
	store   Store
	applied uint64
	lanes   map[string]*lane
	next    *ControlView // the view that the current entry makes, nil while equal
	clock   int64
	dirty   int
	changed bool
	results command.ResultWriter
}

// NewControl returns an empty machine. It has no side effects. Load it before Apply.
func NewControl() *Control {
	c := &Control{}
	c.reset()
	return c
}

func (c *Control) reset() {
	c.applied, c.clock, c.dirty, c.changed = 0, 0, 0, false
	c.lanes = make(map[string]*lane)
	c.next = nil
	c.view.Store(&ControlView{
		Nodes: make(map[string]*NodeInfo), Placement: make(map[uint32][]string), Settings: make(map[string]string),
		Founding: make(map[uint32]bool), Tokens: make(map[string]*command.JoinToken),
		APIKeys: make(map[string]*command.APIKey),
	})
}

// View is the state after the last apply. It is immutable; the pointer changes
// when anything in it changes. Never nil.
func (c *Control) View() *ControlView { return c.view.Load() }

// Applied is the index of the last applied entry.
func (c *Control) Applied() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.applied
}

// DirtyBytes is about how much a WriteBack would write.
func (c *Control) DirtyBytes() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.dirty
}

// Apply applies an entry. An index at or below Applied is skipped (nil results).
// An error means that the process must end.
func (c *Control) Apply(index uint64, entry []byte) ([]command.BatchResult, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.store == nil {
		return nil, ErrNotLoaded
	}
	if index <= c.applied {
		return nil, nil
	}
	e, err := command.DecodeEntry(entry)
	if err != nil {
		return nil, fmt.Errorf("apply control entry %d: %w", index, err)
	}
	c.clock = max(c.clock, e.Time)
	c.changed = true
	var results []command.BatchResult
	var b command.Batch
	for {
		ok, err := e.Next(&b)
		if err == nil && ok {
			var r command.BatchResult
			r, err = c.applyLane(index, &b)
			results = append(results, r)
		}
		if err != nil {
			return nil, fmt.Errorf("apply control entry %d: %w", index, err)
		}
		if !ok {
			break
		}
	}
	c.applied = index
	c.dirty += len(entry)
	if v := c.next; v != nil {
		c.next = nil
		v.Index, v.Clock = index, c.clock
		v.FeatureLevel = featureLevel(v)
		c.view.Store(v)
	}
	return results, nil
}

func (c *Control) applyLane(index uint64, b *command.Batch) (command.BatchResult, error) {
	r := command.BatchResult{Node: strings.Clone(b.Node), Incarnation: b.Incarnation, Seq: b.Seq, Code: command.OK}
	var err error
	if b.Node == "" {
		r.Results, err = c.applyCommands(index, b)
		return r, err
	}
	l := c.lanes[b.Node]
	if l == nil {
		l = &lane{node: r.Node}
		c.lanes[l.node] = l
	}
	if r.Code = l.admit(b); r.Code != command.OK {
		return r, nil
	}
	if b.Seq <= l.last {
		r.Results, r.Code = l.answer(b.Seq)
		return r, nil
	}
	if r.Results, err = c.applyCommands(index, b); err == nil {
		l.keep(b.Seq, b.AckedSeq, r.Results)
	}
	return r, err
}

func (c *Control) applyCommands(index uint64, b *command.Batch) ([]byte, error) {
	c.results.Reset(nil)
	it := b.Commands()
	var cmd command.Command
	for {
		ok, err := it.Next(&cmd)
		if err != nil {
			return nil, err
		}
		if !ok {
			return c.results.Bytes(), nil
		}
		if err := c.applyCommand(index, &cmd); err != nil {
			return nil, fmt.Errorf("%s: %w", cmd.Kind, err)
		}
	}
}

func (c *Control) applyCommand(index uint64, cmd *command.Command) error {
	w := &c.results
	switch cmd.Kind {
	case command.KindForm:
		return plain(w, &command.Form{}, cmd.Payload, c.applyForm)
	case command.KindNodeUp:
		var up command.NodeUp
		if err := up.Decode(cmd.Payload); err != nil {
			return err
		}
		r := c.applyNodeUp(index, &up)
		w.Add(&r)
		return nil
	case command.KindNodeDown:
		return plain(w, &command.NodeDown{}, cmd.Payload, c.applyNodeDown)
	case command.KindNodeState:
		return plain(w, &command.SetNodeState{}, cmd.Payload, c.applyNodeState)
	case command.KindPlace:
		return plain(w, &command.Place{}, cmd.Payload, c.applyPlace)
	case command.KindSet:
		return plain(w, &command.Set{}, cmd.Payload, c.applySet)
	case command.KindPutToken:
		return plain(w, &command.PutToken{}, cmd.Payload, c.applyPutToken)
	case command.KindDropToken:
		return plain(w, &command.DropToken{}, cmd.Payload, c.applyDropToken)
	case command.KindAdmit:
		return plain(w, &command.Admit{}, cmd.Payload, c.applyAdmit)
	case command.KindPutOperation:
		return plain(w, &command.PutOperation{}, cmd.Payload, c.applyPutOperation)
	case command.KindPutAPIKey:
		return plain(w, &command.PutAPIKey{}, cmd.Payload, c.applyPutAPIKey)
	case command.KindDropAPIKey:
		return plain(w, &command.DropAPIKey{}, cmd.Payload, c.applyDropAPIKey)
	case command.KindRecoverControl:
		return plain(w, &command.RecoverControl{}, cmd.Payload, c.applyRecoverControl)
	case command.KindRestoring:
		return plain(w, &command.Restoring{}, cmd.Payload, c.applyRestoring)
	case command.KindTick:
		w.Code(command.OK)
		return nil
	}
	if cmd.Ignorable {
		w.Code(command.OK)
		return nil
	}
	return ErrUnknownKind
}

// edit is the view that the current entry makes. Its maps are its own, what they
// refer to is not: replace it, do not change it.
func (c *Control) edit() *ControlView {
	if c.next == nil {
		v := *c.view.Load()
		v.Nodes = maps.Clone(v.Nodes)
		v.Placement = maps.Clone(v.Placement)
		v.Settings = maps.Clone(v.Settings)
		v.Founding = maps.Clone(v.Founding)
		v.Tokens = maps.Clone(v.Tokens)
		v.APIKeys = maps.Clone(v.APIKeys)
		c.next = &v
	}
	return c.next
}

// current is the state as the commands before this one left it.
func (c *Control) current() *ControlView {
	if c.next != nil {
		return c.next
	}
	return c.view.Load()
}

func (c *Control) applyForm(f *command.Form) command.ResultCode {
	if c.current().Formed() {
		return command.Duplicate
	}
	if f.ClusterID == "" || f.Shards == 0 || f.Shards > router.Slots || f.Replicas == 0 || len(f.Nodes) == 0 {
		return command.Invalid
	}
	v := c.edit()
	v.ClusterID = strings.Clone(f.ClusterID)
	v.Shards, v.Replicas = f.Shards, f.Replicas
	v.Slots = slotsOf(f.Shards)
	for i := range f.Nodes {
		n := &NodeInfo{Node: cloneNode(&f.Nodes[i]), State: command.NodeReady}
		if old := v.Nodes[n.ID]; old != nil { // it came up before
			n.Incarnation, n.Up = old.Incarnation, old.Up
		}
		v.Nodes[n.ID] = n
	}
	for _, set := range f.Settings {
		v.Settings[strings.Clone(set.Key)] = strings.Clone(set.Value)
	}
	return command.OK
}

// slotsOf spreads the slots over the shards in equal runs. It is frozen: changing
// it would move sessions of existing clusters.
func slotsOf(shards uint32) []uint32 {
	slots := make([]uint32, router.Slots)
	for i := range slots {
		slots[i] = uint32(uint64(i)*uint64(shards)/router.Slots) + 1
	}
	return slots
}

func (c *Control) applyNodeUp(index uint64, up *command.NodeUp) command.Result {
	old := c.current().Nodes[up.Node.ID]
	// Who is unknown to a formed cluster was not admitted.
	if up.Node.ID == "" || old == nil && c.current().Formed() || old != nil && old.State == command.NodeRemoved {
		return command.Result{Code: command.Invalid}
	}
	n := &NodeInfo{Node: cloneNode(&up.Node), Incarnation: index, Up: true, State: command.NodeJoining}
	if old != nil {
		n.State = old.State
		n.Incarnation = max(index, old.Incarnation+1) // twice in one entry
	}
	c.edit().Nodes[n.ID] = n
	return command.Result{Code: command.OK, Incarnation: n.Incarnation, Index: index}
}

func (c *Control) applyNodeDown(d *command.NodeDown) command.ResultCode {
	old := c.current().Nodes[d.Node]
	switch {
	case old == nil:
		return command.UnknownNode
	case old.Incarnation != d.Incarnation:
		return command.StaleEpoch
	case !old.Up:
		return command.OK
	}
	n := *old
	n.Up = false
	c.edit().Nodes[n.ID] = &n
	return command.OK
}

func (c *Control) applyNodeState(d *command.SetNodeState) command.ResultCode {
	old := c.current().Nodes[d.Node]
	switch {
	case old == nil:
		return command.UnknownNode
	case d.State < command.NodeJoining || d.State > command.NodeRemoved:
		return command.Invalid
	case old.State == command.NodeRemoved && d.State != command.NodeRemoved:
		return command.Invalid // ids are never used again (I25)
	case old.State == d.State:
		return command.OK
	}
	n := *old
	n.State = d.State
	n.Up = n.Up && d.State != command.NodeRemoved
	c.edit().Nodes[n.ID] = &n
	return command.OK
}

func (c *Control) applyPlace(p *command.Place) command.ResultCode {
	v := c.current()
	if p.Shard == 0 || p.Shard > v.Shards {
		return command.Invalid
	}
	replicas := make([]string, 0, len(p.Replicas))
	for _, id := range p.Replicas {
		if v.Nodes[id] == nil || slices.Contains(replicas, id) {
			return command.Invalid
		}
		replicas = append(replicas, strings.Clone(id))
	}
	before := v.Placement[p.Shard]
	if slices.Equal(before, replicas) {
		return command.OK
	}
	e := c.edit()
	e.Placement[p.Shard] = replicas
	delete(e.Founding, p.Shard)
	if p.Founding && len(before) == 0 {
		e.Founding[p.Shard] = true
	}
	return command.OK
}

func (c *Control) applySet(d *command.Set) command.ResultCode {
	key, value := d.Setting.Key, d.Setting.Value
	if key == "" {
		return command.Invalid
	}
	if c.current().Settings[key] == value {
		return command.OK
	}
	if value == "" {
		delete(c.edit().Settings, key)
		return command.OK
	}
	c.edit().Settings[strings.Clone(key)] = strings.Clone(value)
	return command.OK
}

// featureLevel is what every node that was not removed supports.
func featureLevel(v *ControlView) uint32 {
	level, first := uint32(0), true
	for _, n := range v.Nodes {
		if n.State != command.NodeRemoved && (first || n.FeatureLevel < level) {
			level, first = n.FeatureLevel, false
		}
	}
	return max(level, v.FeatureLevel) // it is never lowered
}

// cloneNode copies a record out of the entry that brought it.
func cloneNode(n *command.Node) command.Node {
	c := command.Node{
		ID: strings.Clone(n.ID), ClusterAddr: strings.Clone(n.ClusterAddr), MQTTAddr: strings.Clone(n.MQTTAddr),
		MQTTSAddr: strings.Clone(n.MQTTSAddr), AdminAddr: strings.Clone(n.AdminAddr), Zone: strings.Clone(n.Zone),
		Version: strings.Clone(n.Version), FeatureLevel: n.FeatureLevel,
	}
	for _, r := range n.Roles {
		c.Roles = append(c.Roles, strings.Clone(r))
	}
	return c
}
