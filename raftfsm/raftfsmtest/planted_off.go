//go:build !planted

package raftfsmtest

// planted tells whether a bug is planted on purpose: in this build there is none, and what asks for one is not compiled.
func planted(string) bool { return false }
