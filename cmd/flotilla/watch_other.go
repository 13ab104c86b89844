//go:build !linux

package main

import "os"

// windowSize is not known here: everything is printed.
func windowSize(*os.File) (columns, rows int) { return 0, 0 }

// windowChanges tells nothing here: the next interval draws anew.
func windowChanges() (changed <-chan os.Signal, stop func()) { return nil, func() {} }
