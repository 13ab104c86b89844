// Package raftfsmtest holds what tests of Raft groups need: a network and a disk in memory that can be
// cut and crashed, a small machine with an order-sensitive digest, and a cluster of hosts made of them.
// Everything works inside testing/synctest. Production code never imports it.
//
// It must not know what raftfsm's internals look like: it uses the exported surface alone.
package raftfsmtest
