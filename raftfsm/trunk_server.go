package raftfsm

import (
	"bufio"
	"net"

	"github.com/hashicorp/raft"
)

const (
	// trunkBuffer is what one read of a trunk may bring.
	trunkBuffer = 32 << 10
	// trunkQueue is how many messages for one group may wait on one stream. A leader has three under way
	// (entries, a heartbeat, a courier's); more are what it has given up.
	trunkQueue = 8
)

// trunkServer is the end of a stream that another node has dialled. Each group has a goroutine, so that
// one whose store is slow keeps the others' messages from nobody, and those of one group stay in order.
type trunkServer struct {
	t      *trunk
	out    *frameWriter
	queues map[uint32]chan trunkRequest // owned by read
}

type trunkRequest struct {
	number  uint64
	command any
}

// read hands out the requests of a stream until it ends, and returns why it has.
func (s *trunkServer) read(c net.Conn) error {
	r := bufio.NewReaderSize(c, trunkBuffer)
	for {
		f, err := readFrame(r)
		if err != nil {
			return err
		}
		m, err := f.request()
		if err != nil {
			return err
		}
		if err := s.hand(f, m); err != nil {
			return err
		}
	}
}

func (s *trunkServer) hand(f rawFrame, m any) error {
	q := s.queues[f.group]
	if q == nil {
		if s.t.end(f.group) == nil {
			return s.refuse(f.group, f.number, "it has no replica of this group")
		}
		q = make(chan trunkRequest, trunkQueue)
		s.queues[f.group] = q
		s.t.spawn(func() { s.work(f.group, q) })
	}
	select {
	case q <- trunkRequest{number: f.number, command: m}:
		return nil
	default:
		return s.refuse(f.group, f.number, "too many messages of this group wait")
	}
}

// work passes a group's requests to raft, one after the other, and sends what it answers.
func (s *trunkServer) work(group uint32, queue <-chan trunkRequest) {
	answers := make(chan raft.RPCResponse, 1)
	for req := range queue {
		e := s.t.end(group)
		if e == nil {
			_ = s.refuse(group, req.number, "it has no replica of this group")
			continue
		}
		var a raft.RPCResponse
		select {
		case e.inbox <- raft.RPC{Command: req.command, RespChan: answers}:
			select {
			case a = <-answers:
			case <-e.closed:
				answers = make(chan raft.RPCResponse, 1) // raft may still answer into the old one
				_ = s.refuse(group, req.number, "its replica was closed")
				continue
			}
		case <-e.closed:
			_ = s.refuse(group, req.number, "its replica was closed")
			continue
		}
		// What a store said that has failed since must not leave the node (guard G5).
		if e.dead() {
			continue
		}
		f := frame{kind: frameAnswer, group: group, number: req.number, body: a.Response}
		if a.Error != nil {
			f.kind, f.body = frameRefusal, a.Error.Error()
		}
		_ = s.out.send(f) // a stream that has ended is for read to find
	}
}

func (s *trunkServer) refuse(group uint32, number uint64, why string) error {
	return s.out.send(frame{kind: frameRefusal, group: group, number: number, body: why})
}
