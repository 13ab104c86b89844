package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"go.uber.org/zap"
)

// watchReload reads the files of a running node again with each SIGHUP: users
// and certificates. Who is connected stays connected. The channel is closed
// when ctx has ended.
func (p *process) watchReload(ctx context.Context) <-chan struct{} {
	done := make(chan struct{})
	signals := make(chan os.Signal, 1) // a second one before the first is served says nothing new
	signal.Notify(signals, syscall.SIGHUP)
	go func() {
		defer close(done)
		defer signal.Stop(signals)
		for {
			select {
			case <-ctx.Done():
				return
			case <-signals:
				p.reload()
			}
		}
	}()
	return done
}

func (p *process) reload() {
	if err := errors.Join(p.users.reload(), p.node.ReloadTLS(), p.port.reload()); err != nil {
		p.lg.Error("files were not read again, the old ones stay", zap.String("event", "config.rejected"), zap.Error(err))
		return
	}
	p.lg.Info("users and certificates were read again", zap.String("event", "config.reloaded"))
}
