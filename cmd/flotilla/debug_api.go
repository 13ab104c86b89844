package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/flotilla-mqtt/flotilla/api/client"
	"github.com/flotilla-mqtt/flotilla/cluster"
	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/config"
)

// DebugNode implements api.Debugger.
func (a *nodeAPI) DebugNode(ctx context.Context, node string) (client.DebugNode, error) {
	files, err := a.n.DebugFiles(ctx, node)
	out := client.DebugNode{Node: node}
	for _, f := range files {
		out.Files = append(out.Files, client.DebugFile(f))
	}
	return out, memberError(err)
}

// debugSource is what only the program knows of its node.
type debugSource struct {
	loaded  *config.Result
	metrics prometheus.Gatherer
	log     *logRing
	began   time.Time
}

// files gathers it. Nothing in it is a payload or a secret: the configuration hides those, and log lines never have any.
func (d *debugSource) files(context.Context) []cluster.DebugFile {
	files := []cluster.DebugFile{d.version(), fileOf("config.yaml", func(b *bytes.Buffer) error { return d.loaded.Dump(b) })}
	files = append(files, fileOf("metrics.txt", d.writeMetrics))
	files = append(files, cluster.DebugFile{Name: "log.jsonl", Data: d.log.bytes()})
	for _, p := range []struct {
		name, file string
		level      int
	}{{"goroutine", "goroutine.txt", 1}, {"heap", "heap.pb.gz", 0}, {"mutex", "mutex.pb.gz", 0}, {"block", "block.pb.gz", 0}} {
		files = append(files, fileOf(p.file, func(b *bytes.Buffer) error { return pprof.Lookup(p.name).WriteTo(b, p.level) }))
	}
	return files
}

func fileOf(name string, write func(*bytes.Buffer) error) cluster.DebugFile {
	var b bytes.Buffer
	f := cluster.DebugFile{Name: name}
	if err := write(&b); err != nil {
		f.Error = err.Error()
	}
	f.Data = b.Bytes()
	return f
}

func (d *debugSource) writeMetrics(b *bytes.Buffer) error {
	req, err := http.NewRequest(http.MethodGet, "/metrics", nil)
	if err != nil {
		return err
	}
	promhttp.HandlerFor(d.metrics, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}).ServeHTTP(&bodyOnly{Buffer: b}, req)
	return nil
}

// bodyOnly takes the body of an answer.
type bodyOnly struct {
	*bytes.Buffer
	header http.Header
}

// Header implements http.ResponseWriter.
func (w *bodyOnly) Header() http.Header {
	if w.header == nil {
		w.header = http.Header{}
	}
	return w.header
}

// WriteHeader implements http.ResponseWriter.
func (*bodyOnly) WriteHeader(int) {}

func (d *debugSource) version() cluster.DebugFile {
	about := map[string]any{
		"version": version, "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH, "cpus": runtime.NumCPU(),
		"gomaxprocs": runtime.GOMAXPROCS(0), "goroutines": runtime.NumGoroutine(), "started_at": d.began.UTC(), "collected_at": time.Now().UTC(),
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		deps := map[string]string{}
		for _, m := range info.Deps {
			deps[m.Path] = m.Version
		}
		about["modules"] = deps
	}
	return fileOf("version.json", func(b *bytes.Buffer) error {
		enc := json.NewEncoder(b)
		enc.SetIndent("", "  ")
		return enc.Encode(about)
	})
}
