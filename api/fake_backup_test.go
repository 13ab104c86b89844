package api

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

// Backup of the fake is a line. It fails before or behind it if its error or cluster id says so.
func (f *fakeNode) Backup(_ context.Context, w io.Writer, begun func(client.BackupInfo) error) error {
	if f.err != nil {
		return f.err
	}
	if err := begun(client.BackupInfo{ClusterID: "c1", CreatedAt: time.UnixMilli(1_700_000_000_000)}); err != nil {
		return err
	}
	if _, err := io.WriteString(w, "backup"); err != nil {
		return err
	}
	if f.status.ClusterID == "late" {
		return fmt.Errorf("group 1: %w", ErrNoLeader)
	}
	return nil
}

func (f *fakeNode) Restore(_ context.Context, r io.Reader, size int64) (client.Operation, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return client.Operation{}, err
	}
	if string(b) != "backup" {
		return client.Operation{}, &GuardError{Code: client.CodeInvalid, Detail: fmt.Sprintf("%d of %d bytes", len(b), size), Status: 422}
	}
	return client.Operation{ID: "op-1", Kind: "restore", State: client.OperationRunning}, nil
}
