package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/config"
	"github.com/flotilla-mqtt/flotilla/raftfsm"
)

func (a *app) backupCommand() *cli.Command {
	return &cli.Command{
		Name: "backup", Usage: "write everything that the cluster holds to a file", ArgsUsage: "FILE",
		Flags: append(commonFlags(), &cli.BoolFlag{Name: "check", Usage: "verify FILE and say what it holds; asks no cluster"}),
		Description: "Sessions with their subscriptions, wills and queued messages, shares, retained messages, settings and API keys; each shard\n" +
			"as of one index, which the file names. Clients notice nothing. The file appears under its name when it is whole; - is stdout.\n\n" +
			"  flotilla cluster backup monday.backup\n  flotilla cluster backup --check monday.backup\n  flotilla cluster backup - | ssh vault 'cat > monday.backup'",
		Action: a.call(1, 1, a.backup),
	}
}

func (a *app) restoreCommand() *cli.Command {
	return &cli.Command{
		Name: "restore", Usage: "bring a backup back into an empty cluster", ArgsUsage: "FILE", Flags: changeFlags(),
		Description: "The cluster must hold nothing, and have as many shards as the one that was backed up. No node serves clients until all is\n" +
			"back; then clients go on with their old client ids. Sessions come back disconnected: their expiry interval goes on where it\n" +
			"stood, wills of those that were connected go out as if their nodes had died. If a node dies meanwhile, it goes on after its\n" +
			"restart, or repeat the command; flotilla operation cancel gives it up.\n\n" +
			"  flotilla cluster restore monday.backup --wait",
		Action: a.call(1, 1, a.restoreBackup),
	}
}

// counter shows how far a copy is: on a terminal a line that changes, else a line now and then.
type counter struct {
	n     atomic.Int64
	total int64 // 0: not known
	stop  chan struct{}
	done  chan struct{}
}

func (ad *admin) count(what string, total int64) *counter {
	c := &counter{total: total, stop: make(chan struct{}), done: make(chan struct{})}
	live := terminal(ad.app.errOut)
	every := progressEvery
	if live {
		every = pollInterval
	}
	go func() {
		defer close(c.done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-c.stop:
				if live {
					fmt.Fprint(ad.app.errOut, "\r\x1b[K")
				}
				return
			case <-tick.C:
			}
			line := what + " " + config.Size(c.n.Load()&^1023).String()
			if c.total > 0 {
				line += fmt.Sprintf(" of %s, %d %%", config.Size(c.total&^1023), c.n.Load()*100/c.total)
			}
			switch {
			case ad.c.Bool("quiet"):
			case live:
				fmt.Fprintf(ad.app.errOut, "\r\x1b[K%s", line)
			default:
				fmt.Fprintln(ad.app.errOut, line)
			}
		}
	}()
	return c
}

func (c *counter) end() { close(c.stop); <-c.done }

// Write implements io.Writer: it counts.
func (c *counter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

func (a *app) backup(ctx context.Context, ad *admin) error {
	name := ad.c.Args().First()
	if ad.c.Bool("check") {
		b, err := ad.checkFile(name)
		if err != nil {
			return err
		}
		return ad.printBackup(a.out, name, b)
	}
	if name == "-" {
		b, err := ad.fetchBackup(ctx, a.out)
		if err != nil {
			return err
		}
		return ad.printBackup(a.errOut, "stdout", b)
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	b, err := ad.fetchBackup(ctx, f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // half a backup is none
		return err
	}
	return ad.printBackup(a.out, name, b)
}

// fetchBackup copies a backup to w and verifies it on its way.
func (ad *admin) fetchBackup(ctx context.Context, w io.Writer) (*raftfsm.Backup, error) {
	type outcome struct {
		b   *raftfsm.Backup
		err error
	}
	r, pw := io.Pipe()
	checked := make(chan outcome, 1)
	go func() {
		b, err := raftfsm.CheckBackup(r, nil)
		_, _ = io.Copy(io.Discard, r) // the copy must not wait for who has given up
		checked <- outcome{b, err}
	}()
	progress := ad.count("backup:", 0)
	err := ad.api.Backup(ctx, io.MultiWriter(w, progress, pw))
	_ = pw.Close() // of a pipe: never fails
	progress.end()
	o := <-checked
	switch {
	case err != nil:
		return nil, err
	case o.err != nil:
		return nil, failf(exitServer, "what the node sent is no backup: %v", o.err)
	}
	return o.b, nil
}

func (ad *admin) checkFile(name string) (*raftfsm.Backup, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size := int64(0)
	if st, err := f.Stat(); err == nil {
		size = st.Size()
	}
	progress := ad.count("verify:", size)
	b, err := raftfsm.CheckBackup(f, func(n int) { progress.n.Add(int64(n)) })
	progress.end()
	if err != nil {
		return nil, failf(exitFailed, "%s: %v", name, err)
	}
	return b, nil
}

// printBackup says what a backup holds.
func (ad *admin) printBackup(out io.Writer, name string, b *raftfsm.Backup) error {
	if ad.c.Bool("quiet") {
		return nil
	}
	if out == ad.app.out && (ad.format == "json" || ad.format == "yaml") {
		raw, err := json.Marshal(struct {
			ID    string               `json:"id"`
			Bytes int64                `json:"bytes"`
			Head  raftfsm.BackupHeader `json:"backup"`
		}{b.ID, b.Bytes, b.Header})
		if err != nil {
			return fmt.Errorf("encode what the backup holds: %w", err)
		}
		return ad.printRaw(raw)
	}
	var sum raftfsm.BackupGroup
	for _, g := range b.Header.Groups {
		sum.Sessions, sum.Subscriptions, sum.Shares = sum.Sessions+g.Sessions, sum.Subscriptions+g.Subscriptions, sum.Shares+g.Shares
		sum.Messages, sum.Retained, sum.Originated = sum.Messages+g.Messages, sum.Retained+g.Retained, sum.Originated+g.Originated
	}
	h := b.Header
	_, err := fmt.Fprintf(out, "%s: cluster %s, %s, %d shards, %s\n  %d sessions, %d subscriptions, %d queued messages, %d shares, %d retained messages, %d on their way\n",
		name, h.ClusterID, h.CreatedAt.Format(time.RFC3339), h.Shards, config.Size(b.Bytes&^1023), sum.Sessions, sum.Subscriptions, sum.Messages, sum.Shares, sum.Retained, sum.Originated)
	if ad.format == "wide" && err == nil {
		for _, g := range h.Groups {
			if _, err = fmt.Fprintf(out, "  group %d at index %d, digest %s\n", g.Group, g.Index, g.Digest); err != nil {
				return err
			}
		}
	}
	return err
}

func (a *app) restoreBackup(ctx context.Context, ad *admin) error {
	name := ad.c.Args().First()
	b, err := ad.checkFile(name)
	if err != nil {
		return err
	}
	if ad.format != "json" && ad.format != "yaml" {
		if err := ad.printBackup(a.errOut, name, b); err != nil {
			return err
		}
	}
	if ad.c.Bool("dry-run") {
		return ad.said("the file is whole; nothing was changed")
	}
	if err := ad.confirm("Restore it into this cluster? No client is served until it is done."); err != nil {
		return err
	}
	progress := ad.count("upload:", b.Bytes)
	op, err := ad.api.Restore(ctx, b.Bytes, func() (io.ReadCloser, error) {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		progress.n.Store(0)
		return struct {
			io.Reader
			io.Closer
		}{io.TeeReader(f, progress), f}, nil
	})
	progress.end()
	return ad.operation(ctx, op, err, "backup restored: clients are served", "the restore is under way")
}
