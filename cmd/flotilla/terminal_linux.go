package main

import (
	"os"
	"syscall"
	"unsafe"
)

// hideInput stops a terminal from showing what is typed, until the returned
// function is called. What is no terminal stays as it is.
func hideInput(f *os.File) (restore func()) {
	var old syscall.Termios
	if !termios(f, syscall.TCGETS, &old) {
		return func() {}
	}
	quiet := old
	quiet.Lflag &^= syscall.ECHO
	termios(f, syscall.TCSETS, &quiet)
	return func() { termios(f, syscall.TCSETS, &old) }
}

func termios(f *os.File, request uintptr, t *syscall.Termios) bool {
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(t)))
	return errno == 0
}
