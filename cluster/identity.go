package cluster

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/flotilla-mqtt/flotilla/router"
)

// identityFormat is the version of node.json and of everything below the data
// directory. A newer one than ours is refused.
const identityFormat = 1

// identity is node.json: who this data directory is. It is the first thing
// written and the first thing read (guard G6): a directory without it is empty
// and has no vote to cast.
type identity struct {
	Format int    `json:"format"`
	NodeID string `json:"node_id"`
	// Starts counts the starts of this directory.
	Starts uint64 `json:"starts"`
	// Slots is a hard setting: another build with another number cannot run here.
	Slots int `json:"slots"`
	// Agreed is the one list of members that this node has agreed to. It is
	// written down before the node says so, and never replaced by another.
	Agreed *agreement `json:"agreed,omitempty"`
	// Formed is set once all members of the list were seen to have agreed.
	Formed bool `json:"formed"`
	// Joined says that this node came into a cluster that existed: it founded no group.
	Joined bool `json:"joined,omitempty"`
	// Shards and Settings are what the control group said when this node opened
	// its first replica. They never change, and let a restart open its replicas
	// while the control group still elects a leader.
	Shards   uint32            `json:"shards,omitempty"`
	Settings map[string]string `json:"settings,omitempty"`
}

// agreement is the list of members that form a cluster, and its id.
type agreement struct {
	ClusterID string   `json:"cluster_id"`
	Members   []member `json:"members"`
}

// member is a node as the forming nodes know it.
type member struct {
	ID    string   `json:"id"`
	Addr  string   `json:"addr"`
	Roles []string `json:"roles"`
	Zone  string   `json:"zone"`
}

func (a *agreement) has(id string) bool {
	for _, m := range a.Members {
		if m.ID == id {
			return true
		}
	}
	return false
}

func (a *agreement) clusterID() string {
	if a == nil {
		return ""
	}
	return a.ClusterID
}

func (id *identity) clusterID() string { return id.Agreed.clusterID() }

func identityPath(dir string) string { return filepath.Join(dir, "node.json") }

// loadIdentity reads node.json of dir, or makes a new identity if there is
// none. A directory that has data but no node.json is refused: its votes
// cannot be attributed.
func loadIdentity(dir, wantID string) (*identity, error) {
	raw, err := os.ReadFile(identityPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		if entries, err := os.ReadDir(dir); err == nil && hasForeignData(entries) {
			return nil, fmt.Errorf("%w: %s holds data but no node.json: restore the file, or start with an empty directory as a new node", ErrIdentity, dir)
		}
		id := &identity{Format: identityFormat, NodeID: wantID, Slots: router.Slots}
		if id.NodeID == "" {
			id.NodeID = "n-" + randomHex(4)
		}
		return id, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	id := new(identity)
	if err := json.Unmarshal(raw, id); err != nil || id.NodeID == "" {
		return nil, fmt.Errorf("%w: %s is damaged (%v): this node must not vote under a guessed identity; replace the node", ErrIdentity, identityPath(dir), err)
	}
	switch {
	case id.Format > identityFormat:
		return nil, fmt.Errorf("%w: %s has format %d, this program knows %d: use a newer program", ErrIdentity, dir, id.Format, identityFormat)
	case id.Slots != router.Slots:
		return nil, fmt.Errorf("%w: %s was made with %d slots, this program has %d", ErrIdentity, dir, id.Slots, router.Slots)
	case wantID != "" && wantID != id.NodeID:
		return nil, fmt.Errorf("%w: %s belongs to node %s, not %s: leave --node-id out or use another --data-dir", ErrIdentity, dir, id.NodeID, wantID)
	}
	return id, nil
}

// hasForeignData tells whether a directory without node.json was used before.
// The lock file of a start that failed early does not count.
func hasForeignData(entries []os.DirEntry) bool {
	for _, e := range entries {
		if e.Name() != "LOCK" && e.Name() != "lost+found" {
			return true
		}
	}
	return false
}

// save writes node.json durably.
func (id *identity) save(dir string) error {
	raw, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return fmt.Errorf("encode identity: %w", err)
	}
	if err := replaceFile(identityPath(dir), append(raw, '\n')); err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	return nil
}

func randomHex(n int) string {
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		panic(err) // crypto/rand does not fail on the systems that we support
	}
	return hex.EncodeToString(b)
}
