package state

import "github.com/flotilla-mqtt/flotilla/raftfsm/command"

// Meter measures how long commands take to apply. It sees their kinds and nothing else, and nothing that it does changes
// what a machine decides; a machine has no clock of its own.
type Meter interface {
	// Begin is called before a command of a kind. 0: this one is not measured.
	Begin(k command.Kind) int64
	// End is called after it with what Begin returned, unless that was 0.
	End(k command.Kind, began int64)
}

// unmetered measures nothing.
type unmetered struct{}

func (unmetered) Begin(command.Kind) int64 { return 0 }
func (unmetered) End(command.Kind, int64)  {}
