package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

func TestLogLinesAreObjects(t *testing.T) {
	var buf bytes.Buffer
	lg, _, err := newLogger(&buf, "info", "json")
	if err != nil {
		t.Fatal(err)
	}
	lg.Debug("not shown")
	lg.With(zap.String("node", "n1")).Warn("disk is slow", zap.String("event", "raft.slow_fsync"), zap.Error(errors.New("late")), zap.Duration("took", time.Second))
	var line map[string]any
	if err := json.Unmarshal(buf.Bytes(), &line); err != nil {
		t.Fatalf("%v: %s", err, buf.String())
	}
	for k, want := range map[string]any{"level": "warn", "msg": "disk is slow", "event": "raft.slow_fsync", "node": "n1", "err": "late", "took": "1s"} {
		if line[k] != want {
			t.Errorf("%s is %v, want %v: %s", k, line[k], want, buf.String())
		}
	}
	if _, err := time.Parse(time.RFC3339, line["ts"].(string)); err != nil {
		t.Error(err)
	}
	if _, _, err := newLogger(&buf, "loud", "json"); exitCode(err) != exitUsage {
		t.Errorf("level loud: %v", err)
	}
}

func TestEventsAreLimited(t *testing.T) {
	var buf bytes.Buffer
	enc := zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "msg"})
	now := time.Unix(1000, 0)
	core := &limitedCore{
		levels: newLogLevels(zapcore.InfoLevel),
		Core:   zapcore.NewCore(enc, zapcore.AddSync(&buf), zap.InfoLevel),
		limit:  &limiter{seen: map[string]*window{}, now: func() time.Time { return now }},
	}
	lg := zap.New(core)
	named := lg.With(zap.String("event", "c.d"))
	for range 50 {
		lg.Info("x", zap.String("event", "a.b"))
		named.Info("y")
	}
	now = now.Add(time.Second)
	lg.Info("x", zap.String("event", "a.b"))
	lines := strings.Split(strings.TrimSpace(buf.String()), "\n")
	if len(lines) != 2*maxPerSecond+1 {
		t.Errorf("%d lines, want %d of each event and one more", len(lines), maxPerSecond)
	}
	if last := lines[len(lines)-1]; !strings.Contains(last, `"suppressed":30`) {
		t.Errorf("the next line does not say what is missing: %s", last)
	}
}
