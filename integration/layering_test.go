package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const modulePath = "github.com/flotilla-mqtt/flotilla"

// layers is the table of rooms: a package imports only packages with a lower number. A package that is not listed
// fails, and so does a listed one that is gone, so the table cannot rot.
func layers() map[string]int {
	return map[string]int{
		"transport/mqtt":          0,
		"transport/mqtt/mqtttest": 0,
		"router":                  0,
		"session/qos":             0,
		"raftfsm/command":         0,
		"transport":               1,
		"transport/transporttest": 1,
		"raftfsm/state":           1,
		"raftfsm/state/statetest": 1,
		"session":                 1,
		"session/auth":            1,
		"session/sessiontest":     1,
		"raftfsm":                 2,
		"raftfsm/raftfsmtest":     2,
		"cluster/ca":              2,
		"cluster/peer":            2,
		"cluster":                 3,
		"api":                     4,
		"api/client":              4,
		"cmd/flotilla":            5,
		"cmd/flotilla/bench":      5,
		"cmd/flotilla/config":     5,
		"cmd/flotilla/mqttc":      5,
		"integration":             5,
		"integration/harness":     5,
		"integration/checker":     5,
		"integration/tap":         5,
		"integration/sim":         5,
		"integration/conformance": 5,
	}
}

// testSupport lists packages that exist for tests only: production code never imports them, and they may import the
// room that they serve.
func testSupport() []string {
	return []string{
		"integration", "integration/harness", "integration/checker", "integration/tap", "integration/sim", "integration/conformance",
		"transport/mqtt/mqtttest",
		"transport/transporttest", "raftfsm/state/statetest", "session/sessiontest", "raftfsm/raftfsmtest",
	}
}

// inRoom lists imports inside one room that the layer numbers alone would refuse.
func inRoom() map[string][]string {
	return map[string][]string{
		"api":                     {"api/client"},
		"cmd/flotilla":            {"cmd/flotilla/bench", "cmd/flotilla/config", "cmd/flotilla/mqttc"},
		"cmd/flotilla/bench":      {"cmd/flotilla/mqttc"},
		"integration":             {"integration/harness", "integration/checker", "integration/tap", "cmd/flotilla/mqttc"},
		"integration/tap":         {"integration/checker"},
		"integration/sim":         {"integration/checker", "cmd/flotilla/mqttc"},
		"transport/mqtt/mqtttest": {"transport/mqtt"},
		"transport/transporttest": {"transport"},
		"raftfsm/state/statetest": {"raftfsm/state"},
		"session/auth":            {"session"},
		"session/sessiontest":     {"session"},
		"raftfsm/raftfsmtest":     {"raftfsm"},
	}
}

// owners says which packages alone may import a library (a prefix of the import path; the longest prefix counts). Test
// files are free. Pebble's vfs is the injected file system, which the one that puts a node together hands down.
func owners() map[string][]string {
	return map[string][]string{
		"github.com/hashicorp/raft":            {"raftfsm"},
		"github.com/hashicorp/raft-boltdb":     {"raftfsm"},
		"github.com/hashicorp/go-metrics":      {"raftfsm"},
		"github.com/hashicorp/go-hclog":        {"raftfsm"},
		"go.etcd.io/bbolt":                     {"raftfsm"},
		"github.com/cockroachdb/pebble":        {"raftfsm"},
		"github.com/cockroachdb/pebble/v2/vfs": {"raftfsm", "cluster", "integration/sim"},
		"github.com/soheilhy/cmux":             {"transport"},
		"github.com/coder/websocket":           {"transport", "cmd/flotilla/mqttc"},
		"github.com/urfave/cli":                {"cmd/flotilla"},
		"github.com/danielgtaylor/huma":        {"api"},
		"github.com/eclipse/paho.golang":       nil,
		"github.com/eclipse/paho.mqtt.golang":  nil,
		"github.com/mochi-mqtt":                nil,
		"github.com/google/go-cmp":             nil,
		"pgregory.net/rapid":                   nil,
		"go.uber.org/goleak":                   nil,
		"github.com/rogpeppe/go-internal":      nil,
		"github.com/anishathalye/porcupine":    nil,
	}
}

// neverImports states bans that the layer numbers do not: a room of a lower layer that a higher one must still not see.
func neverImports() map[string][]string {
	return map[string][]string{
		"session": {"raftfsm/state"},
		"raftfsm": {"session", "session/qos", "transport", "transport/mqtt"},
		"api":     {"session", "session/qos", "raftfsm", "raftfsm/state", "transport", "transport/mqtt"},
	}
}

type goPackage struct {
	ImportPath string
	Imports    []string
	Error      *struct{ Err string }
}

// goList loads the packages of the module with their direct production imports.
func goList(t *testing.T) map[string]goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,Error", "./...")
	cmd.Dir = ".."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	pkgs := map[string]goPackage{}
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatalf("decode go list: %v", err)
		}
		if p.Error != nil {
			t.Fatalf("go list %s: %s", p.ImportPath, p.Error.Err)
		}
		pkgs[strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, modulePath), "/")] = p
	}
}

func TestLayering(t *testing.T) {
	for _, v := range layeringViolations(goList(t), layers(), testSupport(), inRoom(), owners(), neverImports()) {
		t.Error(v)
	}
}

func layeringViolations(pkgs map[string]goPackage, layer map[string]int, support []string, inside, owner, never map[string][]string) []string {
	var bad []string
	for name := range layer {
		if _, ok := pkgs[name]; !ok {
			bad = append(bad, "package "+name+" is listed in the layer table and does not exist")
		}
	}
	for name, p := range pkgs {
		own, ok := layer[name]
		if !ok {
			bad = append(bad, "package "+name+" is not in the layer table")
			continue
		}
		for _, imp := range p.Imports {
			if rel, ours := strings.CutPrefix(imp, modulePath+"/"); ours {
				bad = append(bad, ourImport(name, rel, own, layer, support, inside, never)...)
				continue
			}
			if who, owned := ownerOf(imp, owner); owned && !slices.Contains(who, name) && !slices.Contains(support, name) {
				bad = append(bad, name+" imports "+imp+", which belongs to "+strings.Join(append([]string{"tests"}, who...), ", "))
			}
		}
	}
	slices.Sort(bad)
	return bad
}

// ownerOf finds the longest listed prefix of an import path.
func ownerOf(imp string, owner map[string][]string) (who []string, owned bool) {
	for p := imp; p != "." && p != "/"; p = path.Dir(p) {
		if who, ok := owner[p]; ok {
			return who, true
		}
	}
	return nil, false
}

func ourImport(name, imp string, own int, layer map[string]int, support []string, inside, never map[string][]string) []string {
	var bad []string
	if slices.Contains(support, imp) && !slices.Contains(support, name) {
		bad = append(bad, name+" imports "+imp+", which exists for tests only")
	}
	if slices.Contains(never[name], imp) {
		bad = append(bad, name+" imports "+imp+", which it must never see")
	}
	if theirs, ok := layer[imp]; ok && theirs >= own && !slices.Contains(inside[name], imp) {
		bad = append(bad, name+" imports "+imp+", which is not in a lower layer")
	}
	return bad
}

// The rules of TestLayering must be able to fail.
func TestLayeringRulesBite(t *testing.T) {
	layer := map[string]int{"low": 0, "mid": 1, "high": 2, "aid": 2, "gone": 1}
	pkgs := map[string]goPackage{
		"low":    {Imports: []string{modulePath + "/mid"}},
		"mid":    {Imports: []string{"lib.example/x/v2", modulePath + "/aid"}},
		"high":   {Imports: []string{modulePath + "/low", "lib.example/x"}},
		"aid":    {Imports: []string{modulePath + "/mid"}},
		"secret": {},
	}
	got := layeringViolations(pkgs, layer, []string{"aid"}, nil,
		map[string][]string{"lib.example/x": {"high"}}, map[string][]string{"high": {"low"}})
	want := []string{
		"high imports low, which it must never see",
		"low imports mid, which is not in a lower layer",
		"mid imports aid, which exists for tests only",
		"mid imports aid, which is not in a lower layer",
		"mid imports lib.example/x/v2, which belongs to tests, high",
		"package gone is listed in the layer table and does not exist",
		"package secret is not in the layer table",
	}
	if !slices.Equal(got, want) {
		t.Errorf("violations:\n got %q\nwant %q", got, want)
	}
}

// raft v1.7.3 and raft-boltdb v2.3.1 need go-metrics v0.6.1; a later one lacks a package that raft-boltdb imports.
func TestPinnedRaftModules(t *testing.T) {
	cmd := exec.Command("go", "list", "-m", "github.com/hashicorp/go-metrics", "github.com/hashicorp/raft", "github.com/hashicorp/raft-boltdb/v2")
	cmd.Dir = ".."
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go list -m: %v\n%s", err, out)
	}
	want := "github.com/hashicorp/go-metrics v0.6.1\ngithub.com/hashicorp/raft v1.7.3\ngithub.com/hashicorp/raft-boltdb/v2 v2.3.1\n"
	if string(out) != want {
		t.Errorf("pinned modules:\n got %s\nwant %s", out, want)
	}
}
