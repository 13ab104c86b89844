package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/flotilla-mqtt/flotilla/api"
	"github.com/flotilla-mqtt/flotilla/api/client"
	"github.com/flotilla-mqtt/flotilla/cluster"
)

var _ api.Backuper = (*nodeAPI)(nil)

// Backup implements api.Backuper.
func (a *nodeAPI) Backup(ctx context.Context, w io.Writer, begun func(client.BackupInfo) error) error {
	return backupError(a.n.Backup(ctx, w, func(h *cluster.BackupHeader) error {
		return begun(client.BackupInfo{ClusterID: h.ClusterID, CreatedAt: h.CreatedAt})
	}))
}

// Restore implements api.Backuper.
func (a *nodeAPI) Restore(ctx context.Context, r io.Reader, size int64) (client.Operation, error) {
	op, err := a.n.Restore(ctx, r, size)
	return client.Operation(op), backupError(err)
}

// backupError is memberError with what only backups meet.
func backupError(err error) error {
	var g *cluster.GuardError
	switch {
	case errors.Is(err, cluster.ErrBackupBusy):
		return &api.GuardError{Code: client.CodeOperationInProgress, Detail: fmt.Sprintf("%v: try again", err), Status: http.StatusConflict}
	case errors.As(err, &g) && g.Code == cluster.GuardStorage:
		return &api.GuardError{Code: g.Code, Detail: g.Detail, Status: http.StatusInsufficientStorage}
	}
	return memberError(err)
}
