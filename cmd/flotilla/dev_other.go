//go:build !linux

package main

import (
	"os/exec"
	"syscall"
)

// childAttributes keeps Ctrl-C of the terminal from the children.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// spawn starts a child.
func spawn(cmd *exec.Cmd) error { return cmd.Start() }
