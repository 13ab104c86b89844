package command

import "strconv"

// Kind numbers a command. Numbers are append-only; shards use 1 to 63, the
// control group 64 and above.
type Kind uint32

// The commands of shards.
const (
	KindPublish     Kind = 1
	KindConnect     Kind = 2
	KindDisconnect  Kind = 3
	KindSubscribe   Kind = 4
	KindUnsubscribe Kind = 5
	KindAck         Kind = 6
	KindReceive     Kind = 7
	KindRelease     Kind = 8
	KindOriginDone  Kind = 9
	KindNodeLost    Kind = 10
	KindTick        Kind = 11
	KindEndSession  Kind = 12
	KindCheckpoint  Kind = 13
	KindConfigure   Kind = 14
	// 15 is reserved for MarkFull.
	KindShareMember  Kind = 16
	KindShareDeliver Kind = 17
	KindShareSettle  Kind = 18
	KindReplay       Kind = 19
	// 20 and 21 are in restore.go.
)

// The commands of the control group; those of membership follow at 70, and above
// them there is room for tenants, users and access rules.
const (
	KindForm      Kind = 64
	KindNodeUp    Kind = 65
	KindNodeDown  Kind = 66
	KindNodeState Kind = 67
	KindPlace     Kind = 68
	KindSet       Kind = 69
)

// String names the kind.
func (k Kind) String() string {
	switch k {
	case KindPublish:
		return "publish"
	case KindConnect:
		return "connect"
	case KindDisconnect:
		return "disconnect"
	case KindSubscribe:
		return "subscribe"
	case KindUnsubscribe:
		return "unsubscribe"
	case KindAck:
		return "ack"
	case KindReceive:
		return "receive"
	case KindRelease:
		return "release"
	case KindOriginDone:
		return "origin-done"
	case KindNodeLost:
		return "node-lost"
	case KindTick:
		return "tick"
	case KindEndSession:
		return "end-session"
	case KindCheckpoint:
		return "checkpoint"
	case KindConfigure:
		return "configure"
	case KindShareMember:
		return "share-member"
	case KindShareDeliver:
		return "share-deliver"
	case KindShareSettle:
		return "share-settle"
	case KindReplay:
		return "replay"
	case KindRestore:
		return "restore"
	case KindRestoreChunk:
		return "restore-chunk"
	case KindRestoring:
		return "restoring"
	case KindRecover:
		return "recover"
	case KindRecoverControl:
		return "recover-control"
	case KindForm:
		return "form"
	case KindNodeUp:
		return "node-up"
	case KindNodeDown:
		return "node-down"
	case KindNodeState:
		return "node-state"
	case KindPlace:
		return "place"
	case KindSet:
		return "set"
	case KindPutToken:
		return "put-token"
	case KindDropToken:
		return "drop-token"
	case KindAdmit:
		return "admit"
	case KindPutOperation:
		return "put-operation"
	case KindPutAPIKey:
		return "put-api-key"
	case KindDropAPIKey:
		return "drop-api-key"
	}
	return "kind(" + strconv.FormatUint(uint64(k), 10) + ")"
}
