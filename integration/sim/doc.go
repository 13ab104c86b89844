// Package sim runs whole clusters in fake time: three real nodes (cluster.Start, real Raft, real sessions) on a network and on
// disks in memory, inside a bubble of testing/synctest. A seed decides the faults; clients record a history, and
// integration/checker judges it.
//
// It owns: the world (nodes, disks, links), the faults, the workload, and the end of a run: heal, drain, compare replicas.
//
// It must not know: how the cluster does what it does. It sees nodes through their Config, Status and checks, and clients
// through MQTT.
//
// Goroutines: one per client, one per episode of faults, one per node that is being killed. World.finish joins all of
// them; the end of the bubble proves that the nodes' own are gone, too.
//
// Locks: World.mu guards who is up; clients have a lock of their own. Both are leaves.
//
// What a run shows and what it cannot show stands in README.md.
package sim
