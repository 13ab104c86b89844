package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestLogRingKeepsTheLastWholeLines(t *testing.T) {
	r := newLogRing(100)
	if got := r.bytes(); len(got) != 0 {
		t.Fatalf("empty: %q", got)
	}
	for i := range 3 {
		fmt.Fprintf(r, "line %d\n", i)
	}
	if got, want := string(r.bytes()), "line 0\nline 1\nline 2\n"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	for i := range 1000 {
		fmt.Fprintf(r, "line %d\n", i)
	}
	lines := strings.Split(strings.TrimSpace(string(r.bytes())), "\n")
	if len(lines) < 9 || lines[len(lines)-1] != "line 999" || lines[0] != fmt.Sprintf("line %d", 1000-len(lines)) {
		t.Fatalf("%q", lines)
	}
	if _, err := r.Write([]byte(strings.Repeat("x", 1000) + "\n")); err != nil || len(r.bytes()) > 100 {
		t.Fatalf("a long line: %d bytes, %v", len(r.bytes()), err)
	}
}
