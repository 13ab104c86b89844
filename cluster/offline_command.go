package cluster

import (
	"encoding/hex"
	"fmt"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// EntryReport is a log entry, decoded. Its JSON is a contract.
type EntryReport struct {
	Index      uint64         `json:"index"`
	Term       uint64         `json:"term"`
	Type       string         `json:"type"` // command, configuration, noop, barrier
	Bytes      int            `json:"bytes"`
	AppendedAt *time.Time     `json:"appended_at,omitempty"`
	Time       *time.Time     `json:"group_time,omitempty"` // what the proposer stamped
	Leader     string         `json:"leader,omitempty"`
	Members    []MemberReport `json:"members,omitempty"`
	Batches    []BatchReport  `json:"batches,omitempty"`
	// Error says that the entry is whole, but cannot be understood by this program.
	Error string `json:"error,omitempty"`
}

// BatchReport is what one lane put into an entry; without a node it is the leader's own.
type BatchReport struct {
	Node        string          `json:"node,omitempty"`
	Incarnation uint64          `json:"incarnation,omitempty"`
	Seq         uint64          `json:"seq,omitempty"`
	Commands    []CommandReport `json:"commands"`
}

// CommandReport is one command. Payloads of messages are in it only if they were asked for.
type CommandReport struct {
	Kind         string `json:"kind"`
	Bytes        int    `json:"bytes"`
	Client       string `json:"client_id,omitempty"`
	Epoch        uint64 `json:"epoch,omitempty"`
	Topic        string `json:"topic,omitempty"`
	QoS          byte   `json:"qos,omitempty"`
	Retain       bool   `json:"retain,omitempty"`
	PayloadBytes int    `json:"payload_bytes,omitempty"`
	Payload      []byte `json:"payload_base64,omitempty"`
	Detail       string `json:"detail,omitempty"`
	Error        string `json:"error,omitempty"`
}

func reportEntry(e *raftfsm.LogEntry, payloads bool) EntryReport {
	out := EntryReport{Index: e.Index, Term: e.Term, Type: e.Type, Bytes: e.Bytes, Members: memberReports(e.Members)}
	if len(out.Members) == 0 {
		out.Members = nil
	}
	if !e.AppendedAt.IsZero() {
		at := e.AppendedAt.UTC()
		out.AppendedAt = &at
	}
	if e.Type != "command" || len(e.Data) == 0 {
		return out
	}
	entry, err := command.DecodeEntry(e.Data)
	if err != nil {
		out.Error = err.Error()
		return out
	}
	out.Time, out.Leader = timeOf(entry.Time), entry.Leader
	for {
		var b command.Batch
		ok, err := entry.Next(&b)
		if err != nil {
			out.Error = err.Error()
		}
		if err != nil || !ok {
			return out
		}
		report := BatchReport{Node: b.Node, Incarnation: b.Incarnation, Seq: b.Seq, Commands: []CommandReport{}}
		it := b.Commands()
		var c command.Command
		for {
			ok, err := it.Next(&c)
			if err != nil {
				out.Error = err.Error()
			}
			if err != nil || !ok {
				break
			}
			report.Commands = append(report.Commands, reportCommand(&c, payloads))
		}
		out.Batches = append(out.Batches, report)
	}
}

// reportCommand decodes what operators look for. What it does not know has its kind and size.
func reportCommand(c *command.Command, payloads bool) CommandReport {
	out := CommandReport{Kind: c.Kind.String(), Bytes: len(c.Payload)}
	decode := shardReport
	if c.Kind >= command.KindForm {
		decode = controlReport
	}
	if err := decode(&out, c, payloads); err != nil {
		out.Error = err.Error()
	}
	return out
}

func (r *CommandReport) message(raw []byte, payloads bool) {
	m, err := command.DecodeMessage(raw)
	if err != nil {
		r.Error = err.Error()
		return
	}
	r.Topic, r.QoS, r.Retain, r.PayloadBytes = string(m.Topic), m.QoS, m.Retain, len(m.Payload)
	if payloads {
		r.Payload = m.Payload
	}
}

func (r *CommandReport) ref(ref *command.SessionRef) { r.Client, r.Epoch = ref.ClientID, ref.Epoch }

func shardReport(r *CommandReport, c *command.Command, payloads bool) error {
	switch c.Kind {
	case command.KindPublish:
		var v command.Publish
		if err := v.Decode(c.Payload); err != nil {
			return err
		}
		r.message(v.Message, payloads)
		if v.Origin.Shard != 0 {
			r.Detail = fmt.Sprintf("originated by shard %d as %d", v.Origin.Shard, v.Origin.Seq)
		}
	case command.KindConnect:
		var v command.Connect
		if err := v.Decode(c.Payload); err != nil {
			return err
		}
		r.Client = v.Key.ClientID
		r.Detail = fmt.Sprintf("on %s/%d, clean start %v, expiry %d s, will %v", v.Node, v.Incarnation, v.CleanStart, v.ExpiryS, v.HasWill)
	case command.KindDisconnect:
		var v command.Disconnect
		if err := v.Decode(c.Payload); err != nil {
			return err
		}
		r.ref(&v.Ref)
		r.Detail = fmt.Sprintf("reason %d, sent to %d", v.Reason, v.SentTo)
	case command.KindSubscribe:
		var v command.Subscribe
		if err := v.Decode(c.Payload); err != nil {
			return err
		}
		r.ref(&v.Ref)
		for _, s := range v.Subs {
			r.Detail += fmt.Sprintf("%s (qos %d) ", s.Filter, s.QoS)
		}
	case command.KindUnsubscribe:
		var v command.Unsubscribe
		if err := v.Decode(c.Payload); err != nil {
			return err
		}
		r.ref(&v.Ref)
		r.Detail = fmt.Sprint(v.Filters)
	case command.KindAck:
		var v command.Ack
		if err := v.Decode(c.Payload); err != nil {
			return err
		}
		r.ref(&v.Ref)
		r.Detail = fmt.Sprintf("done %v, received %v, sent to %d", v.Done, v.Received, v.SentTo)
	default:
		return shardReportRest(r, c, payloads)
	}
	return nil
}

func shardReportRest(r *CommandReport, c *command.Command, payloads bool) error {
	switch c.Kind {
	case command.KindReceive:
		var v command.Receive
		if err := v.Decode(c.Payload); err != nil {
			return err
		}
		r.ref(&v.Ref)
		r.message(v.Message, payloads)
		r.Detail = fmt.Sprintf("packet %d", v.PacketID)
	case command.KindRelease:
		var v command.Release
		if err := v.Decode(c.Payload); err != nil {
			return err
		}
		r.ref(&v.Ref)
		r.Detail = fmt.Sprintf("packet %d", v.PacketID)
	case command.KindNodeLost:
		var v command.NodeLost
		if err := v.Decode(c.Payload); err != nil {
			return err
		}
		r.Detail = fmt.Sprintf("%s up to incarnation %d", v.Node, v.Incarnation)
	case command.KindEndSession:
		var v command.EndSession
		if err := v.Decode(c.Payload); err != nil {
			return err
		}
		r.Client, r.Epoch = v.Key.ClientID, v.Epoch
	case command.KindCheckpoint:
		var v command.Checkpoint
		if err := v.Decode(c.Payload); err != nil {
			return err
		}
		r.Detail = fmt.Sprintf("digest %s at %d", hex.EncodeToString(v.Digest[:]), v.Index)
	case command.KindShareMember:
		var v command.ShareMember
		if err := v.Decode(c.Payload); err != nil {
			return err
		}
		r.Client, r.Epoch = v.Member.ClientID, v.Epoch
		r.Detail = fmt.Sprintf("%s %s", v.Event, v.Filter)
	case command.KindShareDeliver:
		var v command.ShareDeliver
		if err := v.Decode(c.Payload); err != nil {
			return err
		}
		r.Client = v.Key.ClientID
		r.message(v.Message, payloads)
		r.Detail = fmt.Sprintf("%s, number %d", v.Filter, v.Seq)
	case command.KindShareSettle:
		var v command.ShareSettle
		if err := v.Decode(c.Payload); err != nil {
			return err
		}
		r.Client = v.Member.ClientID
		r.Detail = fmt.Sprintf("%s, done %v", v.Filter, v.Done)
	case command.KindRecover:
		var v command.Recover
		if err := v.Decode(c.Payload); err != nil {
			return err
		}
		r.Detail = fmt.Sprintf("epochs from %d, %d members gone", v.Epoch, len(v.Gone))
	}
	return nil
}

func controlReport(r *CommandReport, c *command.Command, _ bool) error {
	switch c.Kind {
	case command.KindForm:
		var v command.Form
		if err := v.Decode(c.Payload); err != nil {
			return err
		}
		r.Detail = fmt.Sprintf("cluster %s, %d nodes, %d shards, %d replicas", v.ClusterID, len(v.Nodes), v.Shards, v.Replicas)
	case command.KindNodeUp:
		var v command.NodeUp
		if err := v.Decode(c.Payload); err != nil {
			return err
		}
		r.Detail = v.Node.ID + " at " + v.Node.ClusterAddr
	case command.KindNodeDown:
		var v command.NodeDown
		if err := v.Decode(c.Payload); err != nil {
			return err
		}
		r.Detail = fmt.Sprintf("%s/%d", v.Node, v.Incarnation)
	case command.KindNodeState:
		var v command.SetNodeState
		if err := v.Decode(c.Payload); err != nil {
			return err
		}
		r.Detail = v.Node + " " + v.State.String()
	case command.KindPlace:
		var v command.Place
		if err := v.Decode(c.Payload); err != nil {
			return err
		}
		r.Detail = fmt.Sprintf("shard %d on %v", v.Shard, v.Replicas)
	case command.KindSet:
		var v command.Set
		if err := v.Decode(c.Payload); err != nil {
			return err
		}
		r.Detail = v.Setting.Key + "=" + v.Setting.Value
	case command.KindAdmit:
		var v command.Admit
		if err := v.Decode(c.Payload); err != nil {
			return err
		}
		r.Detail = v.Node.ID + " at " + v.Node.ClusterAddr
	case command.KindPutOperation:
		var v command.PutOperation
		if err := v.Decode(c.Payload); err != nil {
			return err
		}
		r.Detail = fmt.Sprintf("%s %s %s: %s", v.Operation.ID, v.Operation.Kind, v.Operation.Node, v.Operation.State)
	case command.KindRecoverControl:
		var v command.RecoverControl
		if err := v.Decode(c.Payload); err != nil {
			return err
		}
		r.Detail = fmt.Sprintf("survivors %v", v.Survivors)
	}
	return nil
}
