package raftfsm_test

import (
	"testing"
	"testing/synctest"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/raftfsmtest"
)

// TestKillWhileAGroupOpens holds that Kill waits for groups that are being opened and ends them, too: one that was
// forgotten would go on, on databases that are closed. The bubble fails if a goroutine is left.
func TestKillWhileAGroupOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := raftfsmtest.NewDisk()
		h, err := raftfsm.OpenHost(raftfsm.HostConfig{
			Dir: "/data", NodeID: "n1", FS: disk.FS(), Stable: disk.Stable, Fatal: func(err error) { t.Error(err) },
		})
		if err != nil {
			t.Fatal(err)
		}
		goOn, opened, killed := make(chan struct{}), make(chan struct{}), make(chan struct{})
		disk.SetHook(func(string, uint32) error { <-goOn; return nil })
		go func() {
			defer close(opened)
			_, err := h.OpenGroup(raftfsm.GroupConfig{
				ID: 1, Machine: raftfsmtest.NewMachine(), Layer: raftfsmtest.NewNetwork().Layer("n1", 1),
				Bootstrap: []raftfsm.Member{{ID: "n1", Voter: true}},
			})
			t.Logf("opened: %v", err)
		}()
		synctest.Wait()
		go func() { defer close(killed); h.Kill() }()
		synctest.Wait()
		select {
		case <-killed:
			t.Error("Kill did not wait for the group that is being opened")
		default:
		}
		close(goOn)
		<-opened
		<-killed
	})
}
