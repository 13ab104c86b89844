package main

import (
	"os"
	"os/signal"
	"syscall"
	"unsafe"
)

// windowSize is the size of a terminal, 0 where it is unknown.
func windowSize(f *os.File) (columns, rows int) {
	var ws struct{ rows, columns, x, y uint16 }
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&ws)))
	if errno != 0 {
		return 0, 0
	}
	return int(ws.columns), int(ws.rows)
}

// windowChanges tells when the size of the terminal changes, until stop.
func windowChanges() (changed <-chan os.Signal, stop func()) {
	ch := make(chan os.Signal, 1) // one that is pending says all
	signal.Notify(ch, syscall.SIGWINCH)
	return ch, func() { signal.Stop(ch) }
}
