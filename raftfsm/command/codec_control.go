package command

import "google.golang.org/protobuf/encoding/protowire"

// Append adds the node record: 1 id, 2 cluster address, 3 MQTT address, 4 MQTTS
// address, 5 admin address, 6 role (repeated), 7 zone, 8 version, 9 feature level.
// Stores share it.
func (n *Node) Append(dst []byte) []byte {
	dst = putString(dst, 1, n.ID)
	dst = putString(dst, 2, n.ClusterAddr)
	dst = putString(dst, 3, n.MQTTAddr)
	dst = putString(dst, 4, n.MQTTSAddr)
	dst = putString(dst, 5, n.AdminAddr)
	dst = putStrings(dst, 6, n.Roles)
	dst = putString(dst, 7, n.Zone)
	dst = putString(dst, 8, n.Version)
	return putUint(dst, 9, uint64(n.FeatureLevel))
}

// Decode reads what Append wrote. It aliases b.
func (n *Node) Decode(b []byte) error {
	*n = Node{}
	f := fields{b: b}
	for f.next() {
		switch f.num {
		case 1:
			n.ID = f.string()
		case 2:
			n.ClusterAddr = f.string()
		case 3:
			n.MQTTAddr = f.string()
		case 4:
			n.MQTTSAddr = f.string()
		case 5:
			n.AdminAddr = f.string()
		case 6:
			n.Roles = append(n.Roles, f.string())
		case 7:
			n.Zone = f.string()
		case 8:
			n.Version = f.string()
		case 9:
			n.FeatureLevel = f.u32()
		}
	}
	return f.err("node")
}

func putStrings(dst []byte, num protowire.Number, list []string) []byte {
	for _, s := range list {
		dst = protowire.AppendTag(dst, num, protowire.BytesType)
		dst = protowire.AppendString(dst, s)
	}
	return dst
}

func putSetting(dst []byte, num protowire.Number, s *Setting) []byte {
	dst, mark := openField(dst, num)
	dst = putString(dst, 1, s.Key)
	dst = putString(dst, 2, s.Value)
	return closeAt(dst, mark)
}

func (f *fields) setting() Setting {
	var s Setting
	in := fields{b: f.bytes()}
	for in.next() {
		switch in.num {
		case 1:
			s.Key = in.string()
		case 2:
			s.Value = in.string()
		}
	}
	f.bad = f.bad || in.bad
	return s
}

// AppendForm adds the command. Fields: 1 cluster id, 2 node (repeated), 3 shards,
// 4 replicas, 5 setting (repeated).
func AppendForm(dst []byte, c *Form) []byte {
	dst, mark := begin(dst, KindForm)
	dst = putString(dst, 1, c.ClusterID)
	for i := range c.Nodes {
		var m int
		dst, m = openField(dst, 2)
		dst = c.Nodes[i].Append(dst)
		dst = closeAt(dst, m)
	}
	dst = putUint(dst, 3, uint64(c.Shards))
	dst = putUint(dst, 4, uint64(c.Replicas))
	for i := range c.Settings {
		dst = putSetting(dst, 5, &c.Settings[i])
	}
	return closeAt(dst, mark)
}

// Decode reads the payload of a form command. It aliases b.
func (c *Form) Decode(b []byte) error {
	*c = Form{}
	f := fields{b: b}
	for f.next() {
		switch f.num {
		case 1:
			c.ClusterID = f.string()
		case 2:
			var n Node
			if err := n.Decode(f.bytes()); err != nil {
				return err
			}
			c.Nodes = append(c.Nodes, n)
		case 3:
			c.Shards = f.u32()
		case 4:
			c.Replicas = f.u32()
		case 5:
			c.Settings = append(c.Settings, f.setting())
		}
	}
	return f.err("form")
}

// AppendNodeUp adds the command. Its fields are those of Node.
func AppendNodeUp(dst []byte, c *NodeUp) []byte {
	dst, mark := begin(dst, KindNodeUp)
	dst = c.Node.Append(dst)
	return closeAt(dst, mark)
}

// Decode reads the payload of a node-up command. It aliases b.
func (c *NodeUp) Decode(b []byte) error { return c.Node.Decode(b) }

// AppendNodeDown adds the command. Fields: 1 node, 2 incarnation.
func AppendNodeDown(dst []byte, c *NodeDown) []byte {
	dst, mark := begin(dst, KindNodeDown)
	dst = putString(dst, 1, c.Node)
	dst = putUint(dst, 2, c.Incarnation)
	return closeAt(dst, mark)
}

// Decode reads the payload of a node-down command. It aliases b.
func (c *NodeDown) Decode(b []byte) error {
	*c = NodeDown{}
	f := fields{b: b}
	for f.next() {
		switch f.num {
		case 1:
			c.Node = f.string()
		case 2:
			c.Incarnation = f.uint()
		}
	}
	return f.err("node-down")
}

// AppendSetNodeState adds the command. Fields: 1 node, 2 state.
func AppendSetNodeState(dst []byte, c *SetNodeState) []byte {
	dst, mark := begin(dst, KindNodeState)
	dst = putString(dst, 1, c.Node)
	dst = putUint(dst, 2, uint64(c.State))
	return closeAt(dst, mark)
}

// Decode reads the payload of a node-state command. It aliases b.
func (c *SetNodeState) Decode(b []byte) error {
	*c = SetNodeState{}
	f := fields{b: b}
	for f.next() {
		switch f.num {
		case 1:
			c.Node = f.string()
		case 2:
			c.State = NodeState(f.u32())
		}
	}
	return f.err("node-state")
}

// AppendPlace adds the command. Fields: 1 shard, 2 replica (repeated), 3 founding.
func AppendPlace(dst []byte, c *Place) []byte {
	dst, mark := begin(dst, KindPlace)
	dst = putUint(dst, 1, uint64(c.Shard))
	dst = putStrings(dst, 2, c.Replicas)
	dst = putBool(dst, 3, c.Founding)
	return closeAt(dst, mark)
}

// Decode reads the payload of a place command. It aliases b.
func (c *Place) Decode(b []byte) error {
	*c = Place{}
	f := fields{b: b}
	for f.next() {
		switch f.num {
		case 1:
			c.Shard = f.u32()
		case 2:
			c.Replicas = append(c.Replicas, f.string())
		case 3:
			c.Founding = f.bool()
		}
	}
	return f.err("place")
}

// AppendSet adds the command. Field: 1 setting {1 key, 2 value}.
func AppendSet(dst []byte, c *Set) []byte {
	dst, mark := begin(dst, KindSet)
	dst = putSetting(dst, 1, &c.Setting)
	return closeAt(dst, mark)
}

// Decode reads the payload of a set command. It aliases b.
func (c *Set) Decode(b []byte) error {
	*c = Set{}
	f := fields{b: b}
	for f.next() {
		if f.num == 1 {
			c.Setting = f.setting()
		}
	}
	return f.err("set")
}
