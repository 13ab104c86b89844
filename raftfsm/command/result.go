package command

import "strconv"

// ResultCode is how a machine answers a command.
type ResultCode uint32

// The result codes. Numbers are append-only: results are kept for resends.
const (
	OK             ResultCode = 1
	NoMatch        ResultCode = 2 // nobody in this shard wants the message
	Duplicate      ResultCode = 3 // applied before; nothing changed
	StaleEpoch     ResultCode = 4 // the session has another owner by now
	UnknownSession ResultCode = 5
	UnknownPacket  ResultCode = 6
	Full           ResultCode = 7
	Invalid        ResultCode = 8
	UnknownNode    ResultCode = 9
	Denied         ResultCode = 10 // a permission is missing
	WrongUser      ResultCode = 11 // the session belongs to another user name
	NotEmpty       ResultCode = 12 // the shard holds something already
	// Codes of whole batches.
	Gap              ResultCode = 16 // the lane's sequence has a gap; nothing was applied
	ResultsGone      ResultCode = 17 // applied before, its results are no longer kept
	StaleIncarnation ResultCode = 18 // the lane belongs to a process that was lost or replaced
)

// String names the code.
func (c ResultCode) String() string {
	switch c {
	case OK:
		return "ok"
	case NoMatch:
		return "no match"
	case Duplicate:
		return "duplicate"
	case StaleEpoch:
		return "stale epoch"
	case UnknownSession:
		return "unknown session"
	case UnknownPacket:
		return "unknown packet id"
	case Full:
		return "full"
	case Invalid:
		return "invalid"
	case UnknownNode:
		return "unknown node"
	case WrongUser:
		return "wrong user"
	case Denied:
		return "denied"
	case NotEmpty:
		return "not empty"
	case Gap:
		return "lane gap"
	case ResultsGone:
		return "results gone"
	case StaleIncarnation:
		return "stale incarnation"
	}
	return "result(" + strconv.FormatUint(uint64(c), 10) + ")"
}

// Result is the answer to one command. Fields beside Code are set as the
// command's comment says.
type Result struct {
	Code ResultCode
	// Of Connect.
	Epoch   uint64
	Present bool
	ExpiryS uint32
	// Prev is the connection that was superseded, Epoch 0 if there was none.
	Prev            Owner
	Subs            []Subscription
	AwaitingRelease []uint16
	// Replays are retained messages that the inbox is still to get. Of Subscribe, too.
	Replays []PendingReplay
	// Index is the log index of the command, for Connect, Subscribe, Unsubscribe
	// and ShareMember.
	Index uint64
	// Gate is the origin sequence that must be confirmed before the command is
	// answered, 0 for none. Of Subscribe: the last join of a share, and the joins
	// before it. Of Connect: the last will of the client that is on its way.
	Gate uint64
	// Of Subscribe and Unsubscribe: an MQTT reason code per filter.
	Codes   []byte
	Existed []bool
	// Of NodeUp.
	Incarnation uint64
}

// BatchResult is the answer to one batch, for the lane that sent it.
type BatchResult struct {
	Node        NodeID
	Incarnation uint64
	Seq         uint64
	// Code is OK, Gap, ResultsGone or StaleIncarnation. Only OK has Results.
	Code ResultCode
	// Results are encoded (DecodeResults), one per command, in order. They are
	// immutable.
	Results []byte
}
