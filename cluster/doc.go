// Package cluster puts a node together: it opens the Raft groups, carries
// commands to them through lanes, keeps the route table and the lease, and
// implements what package session asks of the cluster.
//
// # What it owns
//
//   - the identity of a node (node.json) and how a cluster is formed;
//   - the groups of a node: the control group and the replicas of shards that
//     the control group placed here;
//   - lanes: the ordered, pipelined stream of commands from this node to one
//     shard, resent after a change of leader;
//   - the merger at a shard's leader, which turns waiting batches into entries;
//   - the route feed, the SUBACK gate and the lease that makes it sound;
//   - forwards of QoS 0 messages and of messages for transient sessions;
//   - backups: one cut of all shards, streamed; restores, from a spooled file to
//     the shards' logs (DESIGN.md);
//   - the duties of a shard's leader: ticks, lost nodes, originated messages;
//   - what the broker says of itself below $SYS, and the limits of memory, disk
//     and retained messages, with their alarms.
//
// # What it must not know
//
// HTTP, command line flags, MQTT packets (it knows messages, not packets).
//
// # Goroutines
//
// All are started by Start or by a method of a started part, and end with
// Node.ctx. For as long as the node runs, joined through Node.wg: one per lane
// (sender), those of boot.go that follow the control group, its settings, what
// was decided about this node and which replicas are to go, one for the lease,
// one for $SYS, one for the limits, one per client port, one per accepted peer
// link (in package peer). While there is work, joined through Node.wg: one per
// question of another node, per stream of forwards, per gate of originated
// commands, per capture that a backup holds, per kick of many clients, those of
// a restore (restore_run.go). For as long as it leads: four per shard (lead.go),
// three for the control group (control.go); the end of the leadership joins
// them, and so does Stop, which ends it. Kill does not wait for these: their
// stores are dead. The goroutines of an event stream are joined by its Close.
//
// # Lock order
//
// Node.mu, then lane.mu, then feed.mu; sysMetrics.mu before feed.mu;
// limits.mu, peerAlarms.mu and dropBook.mu are taken alone. No lock is held across a send on a
// channel, a call into package peer or raftfsm, or any I/O; but for that of a
// capture, which its one reader holds while it reads a page (backup.go).
package cluster
