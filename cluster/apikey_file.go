package cluster

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// keysName is a file in the data directory with the API keys as this node has applied them: names, roles and hashes,
// never a secret. A node that starts without a majority has applied little or nothing of the control group's log, since
// nobody tells it what is committed. The file lets operators in there, and keeps closed what was closed before. Like
// anything that a node without a majority knows, it may be old: a key that was taken back meanwhile works there until
// the node hears of the cluster, or the key expires.
const keysName = "apikeys.json"

// keysFormat is the version of the file.
const keysFormat = 1

// errKeysFile is a file of API keys that does not hold what this program wrote. It says only that there are keys.
var errKeysFile = errors.New("the file of API keys cannot be used")

// keptKeys are the API keys as of an index of the control group.
type keptKeys struct {
	index uint64
	keys  map[string]*command.APIKey
}

// keysFile is the file. Keys are records as the control group keeps them.
type keysFile struct {
	Format int      `json:"format"`
	Index  uint64   `json:"index"`
	Keys   [][]byte `json:"keys"`
	// SHA256 is that of the file without it.
	SHA256 []byte `json:"sha256,omitempty"`
}

func (f keysFile) sum() []byte {
	f.SHA256 = nil
	raw, _ := json.Marshal(f) // numbers and bytes: there is nothing that cannot be encoded
	sum := sha256.Sum256(raw)
	return sum[:]
}

// saveKeys replaces the file durably.
func saveKeys(dir string, k keptKeys) error {
	f := keysFile{Format: keysFormat, Index: k.index}
	for _, id := range sortedKeys(k.keys) {
		f.Keys = append(f.Keys, k.keys[id].Append(nil))
	}
	f.SHA256 = f.sum()
	raw, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("encode API keys: %w", err)
	}
	if err := replaceFile(filepath.Join(dir, keysName), append(raw, '\n')); err != nil {
		return fmt.Errorf("write API keys: %w", err)
	}
	return nil
}

// readKeys reads the file. Errors: fs.ErrNotExist: there are no keys; errKeysFile.
func readKeys(dir string) (*keptKeys, error) {
	raw, err := os.ReadFile(filepath.Join(dir, keysName))
	if err != nil {
		return nil, err
	}
	var f keysFile
	switch err := json.Unmarshal(raw, &f); {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errKeysFile, err)
	case f.Format != keysFormat:
		return nil, fmt.Errorf("%w: it has format %d, this program knows %d", errKeysFile, f.Format, keysFormat)
	case !bytes.Equal(f.SHA256, f.sum()):
		return nil, fmt.Errorf("%w: its checksum does not match", errKeysFile)
	}
	k := &keptKeys{index: f.Index, keys: map[string]*command.APIKey{}}
	for _, rec := range f.Keys {
		key := new(command.APIKey)
		if err := key.Decode(rec); err != nil {
			return nil, fmt.Errorf("%w: %w", errKeysFile, err)
		}
		k.keys[key.ID] = key
	}
	return k, nil
}

// keyWatch keeps the file in line with the control group.
type keyWatch struct {
	// kept is what the file said when this process started, nil if nothing. It is not changed.
	kept   *keptKeys
	inUse  atomic.Bool // the file is there
	asking atomic.Bool // a goroutine finds out whether sure can be set
	// sure: this process has applied all that was committed at some moment since its start. From then on its own state
	// says which keys there are; before, an earlier process may have known more.
	sure atomic.Bool
	// Of followControl alone:
	saved  map[string]*command.APIKey // what the file says
	failed bool                       // it could not be changed
}

// loadKeys reads the file at the start.
func (n *Node) loadKeys() {
	if err := n.keys.load(n.cfg.DataDir); err != nil {
		n.lg.Warn("API keys are unknown here until a majority of the control group can be reached", zap.Error(err))
	}
}

func (w *keyWatch) load(dir string) error {
	kept, err := readKeys(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	w.inUse.Store(true) // what cannot be read may be there
	if err != nil {
		return err
	}
	w.kept, w.saved = kept, kept.keys
	return nil
}

// fileKnowsMore says that the file that this process found may be newer than what was applied since.
func (w *keyWatch) fileKnowsMore(v *state.ControlView) bool {
	return w.kept != nil && v.Index < w.kept.index && !w.sure.Load()
}

// known are the API keys by id.
func (w *keyWatch) known(v *state.ControlView) map[string]*command.APIKey {
	if w.fileKnowsMore(v) {
		return w.kept.keys
	}
	return v.APIKeys
}

// knownKeys are the API keys by id.
func (n *Node) knownKeys() map[string]*command.APIKey { return n.keys.known(n.control.view()) }

// noteKeys runs with every change of the control group, and every second.
func (n *Node) noteKeys(v *state.ControlView) {
	w := &n.keys
	if !w.sure.Load() && w.asking.CompareAndSwap(false, true) {
		n.spawn(func() {
			defer w.asking.Store(false)
			if n.control.barrier(n.ctx) == nil {
				w.sure.Store(true)
			}
		})
	}
	err := w.note(n.cfg.DataDir, v)
	if err != nil && !w.failed {
		n.lg.Warn("API keys are not noted: a restart without a majority would not know them as they are", zap.Error(err))
	}
	w.failed = err != nil
}

// note brings the file in line with what was applied.
func (w *keyWatch) note(dir string, v *state.ControlView) error {
	switch {
	case w.fileKnowsMore(v):
	case len(v.APIKeys) > 0 && !sameKeys(v.APIKeys, w.saved):
		w.inUse.Store(true)
		if err := saveKeys(dir, keptKeys{v.Index, v.APIKeys}); err != nil {
			return err
		}
		w.saved = v.APIKeys
	case len(v.APIKeys) == 0 && w.inUse.Load() && w.sure.Load():
		if err := os.Remove(filepath.Join(dir, keysName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		w.saved = nil
		w.inUse.Store(false)
	}
	return nil
}

func sameKeys(a, b map[string]*command.APIKey) bool {
	if len(a) != len(b) {
		return false
	}
	for id, k := range a {
		if o := b[id]; o == nil || o != k && !o.Same(k) {
			return false
		}
	}
	return true
}
