package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Paths of backup and restore.
const (
	PathBackup  = "/api/v1/backup"
	PathRestore = "/api/v1/restore"
)

// BackupType is the media type of a backup.
const BackupType = "application/vnd.flotilla.backup"

// BackupInfo is what is known of a backup when it begins.
type BackupInfo struct {
	ClusterID string    `json:"cluster_id"`
	CreatedAt time.Time `json:"created_at"`
}

// Backup copies a backup to w. It has no time limit but that of ctx. What was written is whole only if the file says so.
func (c *Client) Backup(ctx context.Context, w io.Writer) error {
	resp, err := c.transfer(ctx, http.MethodGet, PathBackup, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("the node broke off: %w", err)
	}
	return nil
}

// Restore sends a backup. body is called for each endpoint that is tried, size is the length of what it gives.
func (c *Client) Restore(ctx context.Context, size int64, body func() (io.ReadCloser, error)) (Operation, error) {
	resp, err := c.transfer(ctx, http.MethodPost, PathRestore, func(r *http.Request) error {
		b, err := body()
		r.Body, r.ContentLength = b, size
		r.Header.Set("Content-Type", BackupType)
		return err
	})
	if err != nil {
		return Operation{}, err
	}
	defer resp.Body.Close()
	var op Operation
	if err := json.NewDecoder(resp.Body).Decode(&op); err != nil {
		return op, fmt.Errorf("read the answer: %w", err)
	}
	return op, nil
}

// transfer sends a request to the first endpoint that can be reached, without a time limit, and leaves the body to the caller.
func (c *Client) transfer(ctx context.Context, method, path string, prepare func(*http.Request) error) (*http.Response, error) {
	var failed []string
	for _, e := range c.endpoints {
		req, err := c.newRequest(ctx, method, e+path, nil)
		if err == nil && prepare != nil {
			err = prepare(req)
		}
		if err != nil {
			return nil, err
		}
		if c.opt.Debug != nil {
			c.opt.Debug(c.curl(method, e+path, nil))
		}
		resp, err := c.opt.HTTP.Do(req)
		if err == nil && resp.StatusCode >= 300 {
			out, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
			return nil, errors.Join(problemOf(resp, out), err, resp.Body.Close())
		}
		if err == nil {
			return resp, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		failed = append(failed, fmt.Sprintf("%s: %s", e, reason(err)))
	}
	return nil, fmt.Errorf("%w: %s", ErrUnreachable, strings.Join(failed, "; "))
}
