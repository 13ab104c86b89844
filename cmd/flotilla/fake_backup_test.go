package main

import (
	"context"
	"io"

	"github.com/flotilla-mqtt/flotilla/api"
	"github.com/flotilla-mqtt/flotilla/api/client"
	"github.com/flotilla-mqtt/flotilla/raftfsm"
)

// Backup of a paperNode has no groups; one that lacks something breaks off.
func (p paperNode) Backup(_ context.Context, w io.Writer, begun func(client.BackupInfo) error) error {
	if err := begun(client.BackupInfo{ClusterID: "c1"}); err != nil {
		return err
	}
	b, err := raftfsm.NewBackupWriter(w, &raftfsm.BackupHeader{ClusterID: "c1", Shards: 8})
	if err != nil || p.lack != 0 {
		return err
	}
	return b.Close()
}

func (p paperNode) Restore(_ context.Context, r io.Reader, _ int64) (client.Operation, error) {
	if _, err := raftfsm.CheckBackup(r, nil); err != nil {
		return client.Operation{}, err
	}
	if p.lack != 0 {
		return client.Operation{}, &api.GuardError{Code: client.CodeConflict, Detail: "the cluster is not empty: restore into a new cluster", Status: 409}
	}
	return client.Operation{ID: "op-1", Kind: "restore", Node: "n1", State: client.OperationRunning}, nil
}
