package state

import "github.com/flotilla-mqtt/flotilla/raftfsm/command"

// Options are local to a node: they never change what a machine decides.
type Options struct {
	// HotBytes bounds the clean inbox entries that stay in memory after a
	// WriteBack. Default 64 MiB.
	HotBytes int64
	// HotOffline bounds how many of them a session without a connection keeps.
	// Default 1,024.
	HotOffline int
	// Settings are the machine's settings until the log holds a Configure. Unlike
	// the other fields they must be equal on all replicas.
	Settings command.ShardSettings
	// Meter measures the commands; nil: nobody does.
	Meter Meter
}

func (o Options) withDefaults() Options {
	if o.HotBytes == 0 {
		o.HotBytes = 64 << 20
	}
	if o.HotOffline == 0 {
		o.HotOffline = 1024
	}
	if o.Meter == nil {
		o.Meter = unmetered{}
	}
	return o
}
