package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestIdleConnectionsHoldAndArePinged(t *testing.T) {
	c := testConfig(newSink(t))
	c.Subscribers, c.KeepAlive, c.Duration, c.Sources = 20, time.Second, 700*time.Millisecond, 2
	rep, err := Idle(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if rep.Expected != 20 || rep.Received != 20 || rep.Lost+rep.Failed != 0 || rep.Connect.Count != 20 || rep.Ping == nil || rep.Ping.Count < 15 {
		t.Errorf("%+v, connects %+v, pings %+v", rep, rep.Connect, rep.Ping)
	}
}

// TestIdleConnectionsThatEndAreCounted takes connections away while they are held.
func TestIdleConnectionsThatEndAreCounted(t *testing.T) {
	k := newSink(t)
	c := testConfig(k)
	c.Subscribers, c.KeepAlive, c.Duration = 10, time.Second, 2*time.Second
	c.Progress = func(p Progress) {
		if p.Phase == "holding" {
			k.mu.Lock()
			defer k.mu.Unlock()
			for _, conn := range k.all[:3] {
				_ = conn.Close()
			}
		}
	}
	rep, err := Idle(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if rep.Lost != 3 || rep.Received != 7 {
		t.Errorf("lost %d of 3, kept %d of 7", rep.Lost, rep.Received)
	}
}

func TestTableComparesReports(t *testing.T) {
	dir := t.TempDir()
	put := func(name string, rep Report) {
		b, err := json.Marshal(rep)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("other--qos1.json", Report{Mode: "pubsub", RateIn: 400, RateOut: 500, Lost: 3, Ack: &Latency{P50: 1, P99: 2}})
	put("ours--qos1.json", Report{Mode: "pubsub", RateIn: 900, RateOut: 1000, Ack: &Latency{P50: 3, P99: 4}})
	put("ours--connect.json", Report{Mode: "connect", RateIn: 70})
	table, err := ReadTable(dir, []string{"ours"})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := table.Print(&out); err != nil {
		t.Fatal(err)
	}
	want := "| shape | ours | other |\n|---|---|---|\n| connect | 70/s | - |\n| qos1 | 1000/s, 3.00 / 4.00 ms | 500/s, 1.00 / 2.00 ms, **3 lost** (x 2.0) |\n"
	if !strings.HasPrefix(out.String(), want) {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	if _, err := ReadTable(t.TempDir(), nil); !errors.Is(err, ErrReports) {
		t.Errorf("an empty folder: %v", err)
	}
	put("bad--qos1.json", Report{})
	if err := os.WriteFile(filepath.Join(dir, "bad--qos1.json"), []byte("no report"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadTable(dir, nil); !errors.Is(err, ErrReports) || !strings.Contains(err.Error(), "bad--qos1.json") {
		t.Errorf("a file that is no report: %v", err)
	}
}
