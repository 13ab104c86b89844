package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/router"
)

// controlRecord is one record of the control machine.
type controlRecord struct{ key, value []byte }

// records are all records of the control machine, sorted; what a write-back writes
// and what the digest covers. The meta record is not among them.
func (c *Control) records() []controlRecord {
	v := c.view.Load()
	var out []controlRecord
	for _, id := range slices.Sorted(maps.Keys(v.Placement)) {
		value := putUvarint(nil, uint64(len(v.Placement[id])))
		for _, node := range v.Placement[id] {
			value = putBlob(value, node)
		}
		out = append(out, controlRecord{appendU32([]byte{keyPlacement}, id), value})
	}
	for _, id := range slices.Sorted(maps.Keys(v.Founding)) {
		out = append(out, controlRecord{appendU32([]byte{keyFounding}, id), []byte{}})
	}
	for _, id := range slices.Sorted(maps.Keys(v.Tokens)) {
		out = append(out, controlRecord{keyStr(nil, keyJoinToken, id), v.Tokens[id].Append(nil)})
	}
	for _, id := range slices.Sorted(maps.Keys(v.APIKeys)) {
		out = append(out, controlRecord{keyStr(nil, keyAPIKey, id), v.APIKeys[id].Append(nil)})
	}
	if v.Restore != nil {
		out = append(out, controlRecord{[]byte{keyRestoring}, v.Restore.Append(nil)})
	}
	for i := range v.Operations {
		out = append(out, controlRecord{keyStr(nil, keyOperation, v.Operations[i].ID), v.Operations[i].Append(nil)})
	}
	for _, k := range slices.Sorted(maps.Keys(v.Settings)) {
		out = append(out, controlRecord{keyStr(nil, keySetting, k), []byte(v.Settings[k])})
	}
	for _, name := range slices.Sorted(maps.Keys(c.lanes)) {
		out = append(out, controlRecord{keyStr(nil, keyLane, name), c.lanes[name].append(nil)})
	}
	for _, id := range slices.Sorted(maps.Keys(v.Nodes)) {
		n := v.Nodes[id]
		value := putFlag(putUvarint(nil, n.Incarnation), n.Up)
		value = putUvarint(value, uint64(n.State))
		out = append(out, controlRecord{keyStr(nil, keyNode, id), n.Node.Append(value)})
	}
	return out
}

// appendMeta writes the logical part of the meta record: clock, cluster id,
// shards, replicas, feature level, and the slots as runs.
func (c *Control) appendMeta(dst []byte) []byte {
	v := c.view.Load()
	dst = putUvarint(dst, uint64(c.clock))
	dst = putBlob(putUvarint(dst, v.Index), v.ClusterID)
	dst = putUvarint(putUvarint(dst, uint64(v.Shards)), uint64(v.Replicas))
	dst = putUvarint(dst, uint64(v.FeatureLevel))
	for i := 0; i < len(v.Slots); {
		j := i
		for j < len(v.Slots) && v.Slots[j] == v.Slots[i] {
			j++
		}
		dst = putUvarint(putUvarint(dst, uint64(j-i)), uint64(v.Slots[i]))
		i = j
	}
	return dst
}

// Digest is a hash of the logical state at an index.
func (c *Control) Digest() (index uint64, digest [16]byte) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var total sum
	for _, r := range c.records() {
		total.add(recordHash(r.key[0], putBlob(putBlob(nil, r.key), r.value)))
	}
	total.add(recordHash(keyMeta, c.appendMeta(nil)))
	return c.applied, total.bytes()
}

// WriteBack commits the whole state and the applied index in one batch.
func (c *Control) WriteBack() error {
	if c.store == nil {
		return ErrNotLoaded
	}
	if !c.changed {
		return nil
	}
	b := c.store.NewBatch()
	for _, kind := range [...]byte{keyPlacement, keySetting, keyLane, keyNode, keyFounding, keyJoinToken, keyOperation, keyAPIKey, keyRestoring} {
		b.DeleteRange([]byte{kind}, []byte{kind + 1})
	}
	for _, r := range c.records() {
		b.Set(r.key, r.value)
	}
	b.Set([]byte{keyMeta}, c.appendMeta(putUvarint(putUvarint(nil, formatVersion), c.applied)))
	if err := b.Commit(); err != nil {
		return fmt.Errorf("commit control write-back at %d: %w", c.applied, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dirty, c.changed = 0, false
	return nil
}

// Load discards everything in memory and rebuilds it from the store.
func (c *Control) Load(st Store) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reset()
	c.store = st
	meta, err := st.Get([]byte{keyMeta})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("load control meta: %w", err)
	}
	v := c.edit()
	c.next = nil
	if err := c.readMeta(v, meta); err != nil {
		return err
	}
	for kind, read := range map[byte]func(v *ControlView, k, val []byte) error{
		keyPlacement: readPlacement, keyNode: readNode, keySetting: readSetting, keyLane: c.readLane,
		keyFounding: readFounding, keyRestoring: readRestoring, keyJoinToken: readToken, keyOperation: readOperation, keyAPIKey: readAPIKey,
	} {
		err := eachOf(st, kind, func(k, val []byte) error { return read(v, k, val) })
		if err != nil {
			return fmt.Errorf("load control records %c: %w", kind, err)
		}
	}
	c.view.Store(v)
	return nil
}

func readPlacement(v *ControlView, k, val []byte) error {
	if len(k) != 5 {
		return fmt.Errorf("key of %d bytes: %w", len(k), ErrCorrupt)
	}
	r := recordReader{b: val}
	replicas := []string{}
	for n := r.uint(); n > 0 && !r.bad && len(r.b) > 0; n-- {
		replicas = append(replicas, r.string())
	}
	v.Placement[binary.BigEndian.Uint32(k[1:])] = replicas
	return r.err("placement")
}

func readNode(v *ControlView, k, val []byte) error {
	r := recordReader{b: val}
	n := &NodeInfo{Incarnation: r.uint(), Up: r.flag(), State: command.NodeState(r.u32())}
	if err := r.err("node"); err != nil {
		return err
	}
	var rec command.Node
	if err := rec.Decode(r.rest()); err != nil {
		return err
	}
	n.Node = cloneNode(&rec)
	v.Nodes[string(k[1:])] = n
	return nil
}

func readSetting(v *ControlView, k, val []byte) error {
	v.Settings[string(k[1:])] = string(val)
	return nil
}

func readFounding(v *ControlView, k, _ []byte) error {
	if len(k) != 5 {
		return fmt.Errorf("key of %d bytes: %w", len(k), ErrCorrupt)
	}
	v.Founding[binary.BigEndian.Uint32(k[1:])] = true
	return nil
}

func readToken(v *ControlView, k, val []byte) error {
	var t command.JoinToken
	if err := t.Decode(val); err != nil {
		return err
	}
	t = cloneToken(&t)
	v.Tokens[string(k[1:])] = &t
	return nil
}

// readOperation is called in the order of the keys, which is that of the ids.
func readOperation(v *ControlView, _, val []byte) error {
	var o command.Operation
	if err := o.Decode(val); err != nil {
		return err
	}
	v.Operations = append(v.Operations, cloneOperation(&o))
	return nil
}

func (c *Control) readLane(_ *ControlView, k, val []byte) error {
	l := &lane{node: string(k[1:])}
	c.lanes[l.node] = l
	return l.read(val)
}

func (c *Control) readMeta(v *ControlView, meta []byte) error {
	r := recordReader{b: meta}
	if format := r.uint(); format != formatVersion {
		return errFormat(format)
	}
	c.applied, c.clock = r.uint(), r.int()
	v.Clock, v.Index, v.ClusterID = c.clock, r.uint(), r.string()
	v.Shards, v.Replicas, v.FeatureLevel = r.u32(), r.u32(), r.u32()
	for len(r.b) > 0 && !r.bad {
		run, shard := r.uint(), r.u32()
		if run == 0 || uint64(len(v.Slots))+run > router.Slots {
			return fmt.Errorf("load control meta: slots: %w", ErrCorrupt)
		}
		for range run {
			v.Slots = append(v.Slots, shard)
		}
	}
	return r.err("control meta")
}
