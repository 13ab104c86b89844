package command

// The commands that bring the state of a backup into a cluster. A shard gets its part as the records of its store, in
// chunks through its log: every replica writes the same records at the same entries, whoever leads, restarts or is
// caught up by a snapshot meanwhile. From RestoreBegin to RestoreOpen the shard serves nobody.
const (
	KindRestore      Kind = 20
	KindRestoreChunk Kind = 21
	// KindRestoring is a command of the control group.
	KindRestoring Kind = 76
)

// RestoreStep says what a Restore command does.
type RestoreStep uint32

// The steps of a shard's restore.
const (
	RestoreBegin RestoreStep = 1 // lock the shard, drop what an attempt before this one brought
	RestoreLoad  RestoreStep = 2 // all records are here: make state of them
	RestoreOpen  RestoreStep = 3 // serve again
	RestoreClear RestoreStep = 4 // give up: drop everything, serve again, empty
)

// String names the step.
func (s RestoreStep) String() string {
	switch s {
	case RestoreBegin:
		return "begin"
	case RestoreLoad:
		return "load"
	case RestoreOpen:
		return "open"
	case RestoreClear:
		return "clear"
	}
	return "invalid"
}

// Restore is one step of the restore of a shard. Results: OK; Duplicate (it was done before); NotEmpty (of begin: the
// shard holds sessions, shares, retained or originated messages); Invalid (of load: what is here is not what the backup
// held; else: the step does not follow).
type Restore struct {
	Step RestoreStep
	// ID names the attempt. What belongs to an older one changes nothing.
	ID string
	// Of load: the meta record of the backup, how many records there are, their sum, and the digest of the state that
	// they make.
	Meta    []byte
	Records uint64
	Sum     [16]byte
	Digest  [16]byte
}

// RestoreChunk brings records. Results: OK; Duplicate; Invalid (another attempt, or not the next chunk).
type RestoreChunk struct {
	ID string
	// Seq counts the chunks of an attempt from 0.
	Seq uint64
	// Pairs are keys and values, each behind its length as a varint.
	Pairs []byte
}

// RestorePhase says how far the restore of a cluster has come.
type RestorePhase uint32

// The phases of a cluster's restore. In all of them no node serves clients.
const (
	RestoreStaging  RestorePhase = 1 // shards are being filled; repeat it if it stops
	RestoreOpening  RestorePhase = 2 // every shard is whole: all that is left is to open them
	RestoreClearing RestorePhase = 3 // it was given up: shards are emptied
	RestoreEnded    RestorePhase = 4 // clients are served
)

// String names the phase.
func (p RestorePhase) String() string {
	switch p {
	case RestoreStaging:
		return "staging"
	case RestoreOpening:
		return "opening"
	case RestoreClearing:
		return "clearing"
	case RestoreEnded:
		return "ended"
	}
	return "invalid"
}

// Restoring moves the restore of the cluster to a phase. Staging begins a new attempt, also while another one is
// staging; the other phases need the attempt that is under way, and follow staging or (ended) one another.
// Results: OK; Duplicate (it is there already); Invalid.
type Restoring struct {
	ID    string
	Phase RestorePhase
	// Backup names the file, by the digest of its content.
	Backup string
	// Node has the file and fills the shards.
	Node NodeID
}
