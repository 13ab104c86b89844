package main

import (
	"os/exec"
	"runtime"
	"syscall"
)

// childAttributes keeps Ctrl-C of the terminal from the children, which would
// take the signal of dev that follows as the second one, and ends them when
// dev is killed.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

// spawn starts a child from a thread that lives as long as the process: the
// death signal is sent when the thread that started the child ends.
func spawn(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		started <- cmd.Start()
		select {}
	}()
	return <-started
}
