package main

import "testing"

func TestNearestName(t *testing.T) {
	names := []string{"start", "status", "session", "share", "pub", "sub", "cluster", "client"}
	for word, want := range map[string]string{
		"statsu": "status", "strat": "start", "sesion": "session", "clinet": "client", "clutser": "cluster",
		"pbu": "pub", "dub": "pub", "sessions": "session", "xyz": "", "q": "", "help-me": "",
	} {
		if got := nearestName(word, names); got != want {
			t.Errorf("%s: %q, want %q", word, got, want)
		}
	}
}
