package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
)

// formingNodes are nodes that reach each other through pipes.
type formingNodes struct {
	mu      sync.Mutex
	servers map[string]*helloServer // by address; nil = unreachable
}

// from dials as a node.
func (f *formingNodes) from(id string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		f.mu.Lock()
		h := f.servers[addr]
		f.mu.Unlock()
		if h == nil {
			return nil, errors.New("connection refused")
		}
		near, far := net.Pipe()
		go h.serve(far, id)
		return near, ctx.Err()
	}
}

func (f *formingNodes) node(t *testing.T, dir, id string, expect int, join []string) (*formation, *helloServer) {
	t.Helper()
	ident, err := loadIdentity(dir, id)
	if err != nil {
		t.Fatal(err)
	}
	self := member{ID: id, Addr: id + ":7400", Roles: []string{RoleStore}}
	fm := &formation{cfg: &Config{DataDir: dir, BootstrapExpect: expect, Join: join}, id: ident, self: self, lg: zap.NewNop(), dial: f.from(ident.NodeID)}
	h := new(helloServer)
	h.set(fm.hello())
	f.mu.Lock()
	f.servers[self.Addr] = h
	f.mu.Unlock()
	return fm, h
}

func TestFormationAgreesOnOneList(t *testing.T) {
	f := &formingNodes{servers: map[string]*helloServer{}}
	addrs := []string{"n1:7400", "n2:7400", "n3:7400"}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	forms := make([]*formation, 3)
	for i := range forms {
		fm, h := f.node(t, t.TempDir(), fmt.Sprintf("n%d", i+1), 3, addrs)
		forms[i] = fm
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := fm.run(ctx, h); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	for i, fm := range forms {
		id, err := loadIdentity(fm.cfg.DataDir, "")
		if err != nil || !id.Formed || len(id.Agreed.Members) != 3 {
			t.Fatalf("node %d wrote down %+v, %v", i+1, id, err)
		}
		if id.clusterID() != forms[0].id.clusterID() {
			t.Fatalf("two clusters: %s and %s", id.clusterID(), forms[0].id.clusterID())
		}
	}
}

// TestFormationNeedsEveryMember: a list is not complete while one of its
// members has not agreed, also when a majority has.
func TestFormationNeedsEveryMember(t *testing.T) {
	f := &formingNodes{servers: map[string]*helloServer{}}
	a, _ := f.node(t, t.TempDir(), "n1", 3, nil)
	b, _ := f.node(t, t.TempDir(), "n2", 3, nil)
	c, _ := f.node(t, t.TempDir(), "n3", 3, nil)
	see := func(fs ...*formation) map[string]hello {
		m := map[string]hello{}
		for _, x := range fs {
			m[x.id.NodeID] = x.hello()
		}
		return m
	}
	if done, err := a.step(see(b, c)); done || err != nil || a.id.Agreed == nil {
		t.Fatalf("the smallest id did not propose: %v %v", done, err)
	}
	if done, _ := b.step(see(a, c)); done || b.id.Agreed == nil {
		t.Fatal("the second node did not agree, or formed too early")
	}
	if done, _ := a.step(see(b, c)); done {
		t.Fatal("formed although n3 has not agreed")
	}
	if done, _ := c.step(see(a, b)); !done {
		t.Fatal("the last node to agree saw everybody agree and did not form")
	}
	if done, _ := a.step(see(b, c)); !done {
		t.Fatal("not formed although everybody agreed")
	}
}

// TestFormationKeepsItsWord: a node that agreed to one list does not agree to
// another, not even after a restart.
func TestFormationKeepsItsWord(t *testing.T) {
	f := &formingNodes{servers: map[string]*helloServer{}}
	dir := t.TempDir()
	b, _ := f.node(t, dir, "n2", 2, nil)
	a, _ := f.node(t, t.TempDir(), "n1", 2, nil)
	if _, err := a.step(map[string]hello{"n2": b.hello()}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.step(map[string]hello{"n1": a.hello()}); err != nil {
		t.Fatal(err)
	}
	first := b.id.clusterID()
	b, _ = f.node(t, dir, "n2", 2, nil) // restart
	other := hello{Self: member{ID: "n0"}, Expect: 2, Agreed: &agreement{ClusterID: "other", Members: []member{{ID: "n0"}, {ID: "n2"}}}}
	if done, err := b.step(map[string]hello{"n0": other}); done || err != nil || b.id.clusterID() != first {
		t.Fatalf("agreed to %q after %q (formed %v, %v)", b.id.clusterID(), first, done, err)
	}
}

// TestFormationRefusesALostDisk_I25: an empty directory under the id of a
// founder of a formed cluster does not become that founder again.
func TestFormationRefusesALostDisk_I25(t *testing.T) {
	f := &formingNodes{servers: map[string]*helloServer{}}
	a, _ := f.node(t, t.TempDir(), "n1", 2, nil)
	formed := hello{Self: member{ID: "n2"}, Formed: true, Agreed: &agreement{ClusterID: "c", Members: []member{{ID: "n1"}, {ID: "n2"}}}}
	if _, err := a.step(map[string]hello{"n2": formed}); !errors.Is(err, ErrIdentity) || a.id.Agreed != nil {
		t.Fatalf("got %v, want ErrIdentity and no agreement", err)
	}
	formed.Formed = false // still forming: this is an ordinary late member
	if _, err := a.step(map[string]hello{"n2": formed}); err != nil || a.id.Agreed == nil {
		t.Fatalf("a late member was refused: %v", err)
	}
}

func TestIdentityRefusals_I25(t *testing.T) {
	write := func(t *testing.T, name, text string) string {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for _, c := range []struct {
		name, file, text, want string
	}{
		{"data without identity", "log", "x", ""},
		{"damaged", "node.json", "{", ""},
		{"newer format", "node.json", `{"format":99,"node_id":"a","slots":4096}`, ""},
		{"other slot count", "node.json", `{"format":1,"node_id":"a","slots":1024}`, ""},
		{"other node", "node.json", `{"format":1,"node_id":"a","slots":4096}`, "b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := loadIdentity(write(t, c.file, c.text), c.want); !errors.Is(err, ErrIdentity) {
				t.Fatalf("got %v, want ErrIdentity", err)
			}
		})
	}
	if id, err := loadIdentity(t.TempDir(), ""); err != nil || id.NodeID == "" {
		t.Fatalf("an empty directory gave %v, %v", id, err)
	}
}

// Whoever the port let in joins as that node and no other: a certificate for one says nothing for the next.
func TestHelloOfAnotherNodeIsNotAnswered(t *testing.T) {
	f := &formingNodes{servers: map[string]*helloServer{}}
	_, h := f.node(t, t.TempDir(), "n1", 1, nil)
	asked := 0
	h.admit = func(*hello) hello { asked++; return hello{Self: member{ID: "n1"}} }
	for from, want := range map[string]int{"n9": 0, "n2": 1} {
		asked = 0
		conn, err := f.from(from)(t.Context(), "n1:7400")
		if err != nil {
			t.Fatal(err)
		}
		say := &formation{dial: func(context.Context, string) (net.Conn, error) { return conn, nil }}
		_, err = say.say(t.Context(), "n1:7400", hello{Self: member{ID: "n2"}, Joining: true})
		if (err == nil) != (want == 1) || asked != want {
			t.Errorf("a connection of %s: %v, asked %d times", from, err, asked)
		}
	}
}
