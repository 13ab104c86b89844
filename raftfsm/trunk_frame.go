package raftfsm

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/hashicorp/raft"
)

// A frame of a trunk: length of what follows (4 bytes, big endian), kind (1), group (4), number (8),
// and a message. The number of an answer is that of its request. Integers of messages are uvarints,
// byte strings have their length before them, an entry is what the log keeps on disk, checksum included.
const (
	frameHead = 4 + 1 + 4 + 8
	// maxFrame bounds what a reader takes; what is larger than a trunk's message (maxTrunkEntries and
	// the names of two nodes) ends the stream.
	maxFrame = 128 << 10
	// maxTrunkEntries is how many bytes of entries a message on a trunk may carry. More go by the group's own
	// stream: they would keep the heartbeats of other groups waiting on a slow link.
	maxTrunkEntries = 64 << 10
)

type frameKind byte

const (
	frameAppend frameKind = iota + 1
	frameVote
	framePreVote
	frameTimeoutNow
	frameAnswer  // to any of them
	frameRefusal // an error's text, instead of an answer
)

// errFrame says that a stream carries something else than frames.
var errFrame = errors.New("malformed raft message")

// frame is one message. body is one of raft's requests or responses, or the text of a refusal.
type frame struct {
	kind   frameKind
	group  uint32
	number uint64
	body   any
}

// fitsTrunk says whether req is small enough to share a stream with other groups.
func fitsTrunk(req *raft.AppendEntriesRequest) bool {
	n := 0
	for _, e := range req.Entries {
		if n += entrySize(e); n > maxTrunkEntries {
			return false
		}
	}
	return true
}

// appendFrame encodes f.
func appendFrame(b []byte, f frame) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0, byte(f.kind))
	b = binary.BigEndian.AppendUint32(b, f.group)
	b = binary.BigEndian.AppendUint64(b, f.number)
	b = appendBody(b, f.group, f.body)
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-4))
	return b
}

func appendBody(b []byte, group uint32, body any) []byte {
	switch m := body.(type) {
	case *raft.AppendEntriesRequest:
		b = appendHeader(b, m.RPCHeader)
		b = appendUvarints(b, m.Term, m.PrevLogEntry, m.PrevLogTerm, m.LeaderCommitIndex, uint64(len(m.Entries)))
		for _, e := range m.Entries {
			b = appendEntry(b, group, e)
		}
	case *raft.AppendEntriesResponse:
		b = appendUvarints(appendHeader(b, m.RPCHeader), m.Term, m.LastLog)
		b = append(b, flag(m.Success)|flag(m.NoRetryBackoff)<<1)
	case *raft.RequestVoteRequest:
		b = appendUvarints(appendHeader(b, m.RPCHeader), m.Term, m.LastLogIndex, m.LastLogTerm)
		b = append(b, flag(m.LeadershipTransfer))
	case *raft.RequestVoteResponse:
		b = append(appendUvarints(appendHeader(b, m.RPCHeader), m.Term), flag(m.Granted))
	case *raft.RequestPreVoteRequest:
		b = appendUvarints(appendHeader(b, m.RPCHeader), m.Term, m.LastLogIndex, m.LastLogTerm)
	case *raft.RequestPreVoteResponse:
		b = append(appendUvarints(appendHeader(b, m.RPCHeader), m.Term), flag(m.Granted))
	case *raft.TimeoutNowRequest:
		b = appendHeader(b, m.RPCHeader)
	case *raft.TimeoutNowResponse:
		b = appendHeader(b, m.RPCHeader)
	case string:
		b = append(b, m...)
	}
	return b
}

func appendUvarints(b []byte, vs ...uint64) []byte {
	for _, v := range vs {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func appendBytes(b, s []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendHeader leaves out the deprecated fields Leader and Candidate: raft reads them only of senders
// older than RPCHeader.Addr.
func appendHeader(b []byte, h raft.RPCHeader) []byte {
	b = append(b, byte(h.ProtocolVersion))
	return appendBytes(appendBytes(b, h.ID), h.Addr)
}

func appendEntry(b []byte, group uint32, e *raft.Log) []byte {
	var key [logKeyLen]byte
	putLogKey(key[:], group, e.Index)
	size := entrySize(e) - logKeyLen
	b = appendUvarints(b, e.Index, uint64(size))
	b = slices.Grow(b, size)
	putEntry(b[len(b):len(b)+size], key[:], e)
	return b[:len(b)+size]
}

func flag(v bool) byte {
	if v {
		return 1
	}
	return 0
}

// rawFrame is a frame whose message is not decoded yet; the bytes are its own.
type rawFrame struct {
	kind   frameKind
	group  uint32
	number uint64
	bytes  []byte
}

// readFrame reads the next frame. io.EOF is the end between two frames.
func readFrame(r *bufio.Reader) (rawFrame, error) {
	head, err := r.Peek(frameHead)
	if err != nil {
		if len(head) > 0 && errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return rawFrame{}, err
	}
	size := binary.BigEndian.Uint32(head)
	if size < frameHead-4 || size > maxFrame {
		return rawFrame{}, fmt.Errorf("%w: a frame of %d bytes", errFrame, size)
	}
	f := rawFrame{
		kind: frameKind(head[4]), group: binary.BigEndian.Uint32(head[5:]), number: binary.BigEndian.Uint64(head[9:]),
		bytes: make([]byte, size-(frameHead-4)),
	}
	if _, err := r.Discard(frameHead); err != nil {
		return rawFrame{}, err
	}
	if _, err := io.ReadFull(r, f.bytes); err != nil {
		return rawFrame{}, err
	}
	return f, nil
}

// request decodes the message of a request; it keeps slices of the frame.
func (f rawFrame) request() (any, error) {
	p := parser{b: f.bytes}
	var m any
	switch f.kind {
	case frameAppend:
		req := &raft.AppendEntriesRequest{
			RPCHeader: p.header(), Term: p.uvarint(), PrevLogEntry: p.uvarint(), PrevLogTerm: p.uvarint(), LeaderCommitIndex: p.uvarint(),
		}
		req.Entries = p.entries(f.group)
		m = req
	case frameVote:
		m = &raft.RequestVoteRequest{
			RPCHeader: p.header(), Term: p.uvarint(), LastLogIndex: p.uvarint(), LastLogTerm: p.uvarint(), LeadershipTransfer: p.byte() == 1,
		}
	case framePreVote:
		m = &raft.RequestPreVoteRequest{RPCHeader: p.header(), Term: p.uvarint(), LastLogIndex: p.uvarint(), LastLogTerm: p.uvarint()}
	case frameTimeoutNow:
		m = &raft.TimeoutNowRequest{RPCHeader: p.header()}
	default:
		return nil, fmt.Errorf("%w: kind %d is no request", errFrame, f.kind)
	}
	return m, p.end()
}

// answer decodes the message of an answer into one of raft's responses, or returns what was refused.
func (f rawFrame) answer(into any) error {
	if f.kind == frameRefusal {
		return fmt.Errorf("the peer says: %q", f.bytes)
	}
	if f.kind != frameAnswer {
		return fmt.Errorf("%w: kind %d is no answer", errFrame, f.kind)
	}
	p := parser{b: f.bytes}
	switch m := into.(type) {
	case *raft.AppendEntriesResponse:
		*m = raft.AppendEntriesResponse{RPCHeader: p.header(), Term: p.uvarint(), LastLog: p.uvarint()}
		bits := p.byte()
		m.Success, m.NoRetryBackoff = bits&1 != 0, bits&2 != 0
	case *raft.RequestVoteResponse:
		*m = raft.RequestVoteResponse{RPCHeader: p.header(), Term: p.uvarint(), Granted: p.byte() == 1}
	case *raft.RequestPreVoteResponse:
		*m = raft.RequestPreVoteResponse{RPCHeader: p.header(), Term: p.uvarint(), Granted: p.byte() == 1}
	case *raft.TimeoutNowResponse:
		*m = raft.TimeoutNowResponse{RPCHeader: p.header()}
	}
	return p.end()
}

// parser reads a message. After the first thing that is missing everything is zero, and end says so.
type parser struct {
	b   []byte
	bad error
}

func (p *parser) fail(what string) {
	if p.bad == nil {
		p.bad = fmt.Errorf("%w: %s", errFrame, what)
	}
	p.b = nil
}

// end returns what was wrong; bytes that are left are wrong, too.
func (p *parser) end() error {
	if len(p.b) > 0 {
		p.fail("it is longer than its fields")
	}
	return p.bad
}

func (p *parser) uvarint() uint64 {
	v, n := binary.Uvarint(p.b)
	if n <= 0 {
		p.fail("it is shorter than its fields")
		return 0
	}
	p.b = p.b[n:]
	return v
}

func (p *parser) byte() byte {
	if len(p.b) == 0 {
		p.fail("it is shorter than its fields")
		return 0
	}
	v := p.b[0]
	p.b = p.b[1:]
	return v
}

func (p *parser) bytes() []byte {
	n := p.uvarint()
	if n > uint64(len(p.b)) {
		p.fail("it is shorter than its fields")
		return nil
	}
	v := p.b[:n:n]
	p.b = p.b[n:]
	return v
}

func (p *parser) header() raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersion(p.byte()), ID: p.bytes(), Addr: p.bytes()}
}

// entries reads entries, with their checksums.
func (p *parser) entries(group uint32) []*raft.Log {
	n := p.uvarint()
	if n == 0 {
		return nil
	}
	if n > uint64(len(p.b)/(entryHeadLen+2)) { // nothing is allocated by a number that somebody sent
		p.fail("it has fewer entries than it says")
		return nil
	}
	logs, list := make([]raft.Log, n), make([]*raft.Log, n)
	for i := range logs {
		var key [logKeyLen]byte
		putLogKey(key[:], group, p.uvarint())
		if err := getEntry(key[:], p.bytes(), &logs[i]); err != nil {
			p.fail(err.Error())
			return nil
		}
		list[i] = &logs[i]
	}
	return list
}
