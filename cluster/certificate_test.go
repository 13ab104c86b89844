package cluster

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flotilla-mqtt/flotilla/cluster/ca"
	"github.com/flotilla-mqtt/flotilla/transport"
)

// nodeFiles issues the files of a node.
func nodeFiles(t *testing.T, a *ca.Authority, node string) *transport.ClusterFiles {
	t.Helper()
	dir := t.TempDir()
	i, err := a.Issue(node, ca.NodeLife)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.SaveNode(dir, i, false); err != nil {
		t.Fatal(err)
	}
	return &transport.ClusterFiles{CA: filepath.Join(dir, ca.CertFile), Cert: filepath.Join(dir, ca.NodeCertFile), Key: filepath.Join(dir, ca.NodeKeyFile)}
}

func TestFoundersTakeTheClusterFromTheirCertificates(t *testing.T) {
	f := &formation{id: &identity{NodeID: "n1"}, cfg: &Config{DataDir: t.TempDir()}, self: member{ID: "n1"}, clusterID: "c1"}
	if err := f.formAlone(); err != nil || f.id.clusterID() != "c1" {
		t.Errorf("cluster %q, %v", f.id.clusterID(), err)
	}
	f = &formation{id: &identity{NodeID: "n1"}, cfg: &Config{DataDir: t.TempDir(), BootstrapExpect: 2}, self: member{ID: "n1"}, clusterID: "c1"}
	if list := f.choose(map[string]hello{"n2": {Self: member{ID: "n2"}, Expect: 2}}); list.clusterID() != "c1" {
		t.Errorf("cluster %q", list.clusterID())
	}
	f.clusterID = ""
	if err := f.formAlone(); err != nil || len(f.id.clusterID()) != 32 {
		t.Errorf("without certificates: cluster %q, %v", f.id.clusterID(), err)
	}
}

func TestCertificateAndDirectoryAgree(t *testing.T) {
	a, err := ca.New("c1", ca.DefaultLife)
	if err != nil {
		t.Fatal(err)
	}
	n1 := nodeFiles(t, a, "n1")
	cfg := Config{ClusterTLSFiles: n1}
	p, err := cfg.proof()
	if err != nil || p != (transport.Proof{ClusterID: "c1", NodeID: "n1"}) {
		t.Fatalf("%+v, %v", p, err)
	}
	for name, bad := range map[string]Config{
		"another node": {NodeID: "n2", ClusterTLSFiles: n1}, "no file": {ClusterTLSFiles: &transport.ClusterFiles{CA: "x", Cert: "y", Key: "z"}},
	} {
		if _, err := bad.proof(); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]struct {
		id   identity
		says string
	}{
		"empty":           {identity{NodeID: "n1"}, ""},
		"same":            {identity{NodeID: "n1", Agreed: &agreement{ClusterID: "c1"}}, ""},
		"another node":    {identity{NodeID: "n2"}, "ca issue n2"},
		"another cluster": {identity{NodeID: "n1", Agreed: &agreement{ClusterID: "c2"}}, "--cluster-id c2"},
	} {
		err := c.id.agrees(p, "dir")
		if (err == nil) != (c.says == "") || err != nil && (!errors.Is(err, ErrIdentity) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (&identity{NodeID: "n7"}).agrees(transport.Proof{}, "dir"); err != nil {
		t.Errorf("without certificates: %v", err)
	}
}
