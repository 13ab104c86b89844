package sim

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestForms(t *testing.T) {
	dir := t.TempDir()
	real := time.Now()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		w := NewWorld(t, Options{Seed: 1, Dir: dir})
		for _, m := range w.nodes {
			w.Start(m)
		}
		if err := w.WaitReady(); err != nil {
			t.Error(err)
		}
		t.Logf("ready after %v", time.Since(start))
		if err := w.Equal(); err != nil {
			t.Error(err)
		}
		w.Close(false)
		if _, err := w.Verdict(); err != nil {
			t.Error(err)
		}
	})
	t.Log("real", time.Since(real))
}
