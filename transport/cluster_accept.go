package transport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/soheilhy/cmux"
	"go.uber.org/zap"
)

// spawn gives a connection that begins like a preamble a goroutine of its own,
// because the rest of the preamble may be slow. The deadline ends it.
func (p *ClusterPort) spawn(mc *cmux.MuxConn, t *tracked) {
	p.in.wg.Go(func() { p.greet(mc, t) })
}

// greet reads the preamble, answers it, and hands the connection over.
func (p *ClusterPort) greet(mc *cmux.MuxConn, t *tracked) {
	pre, err := readPreamble(mc)
	if err != nil {
		p.in.reject(t, reasonOf(t, reasonPreamble), err)
		t.kill()
		return
	}
	info := PeerInfo{NodeID: pre.from, ClusterID: pre.cluster, Kind: pre.kind, Group: pre.group, Addr: t.RemoteAddr(), Verified: p.tls != nil}
	queue, err := p.admit(pre, info, t)
	if err != nil {
		p.refuse(t, pre, err)
		return
	}
	// From here on nothing of the stream is in mc: its matcher sniffed four
	// bytes of the preamble. t itself reads and writes.
	if err := p.welcome(t, pre); err != nil {
		queue.unreserve()
		p.in.reject(t, reasonOf(t, reasonGone), err)
		t.kill()
		return
	}
	p.metrics.accept(pre.kind.String())
	queue.put(arrival{t: t, info: info})
}

// admit decides about a caller. If there is no error, a place in the returned
// queue is reserved, and the connection is in the sets that it belongs to.
func (p *ClusterPort) admit(pre preamble, info PeerInfo, t *tracked) (*handoff, error) {
	if err := p.identify(pre, t); err != nil {
		return nil, err
	}
	if err := p.cfg.Admit(info); err != nil {
		return nil, err
	}
	queue := p.peers
	var layer *GroupLayer
	if pre.kind == KindRaft {
		if layer = p.layer(pre.group); layer == nil {
			return nil, fmt.Errorf("%w: group %d", ErrUnknownGroup, pre.group)
		}
		queue = layer.queue
	}
	if !p.countPeer(pre.from, t) {
		return nil, fmt.Errorf("%w: more than %d of node %s", ErrBusy, p.cfg.MaxPerPeer, pre.from)
	}
	if layer != nil && !layer.conns.add(t) {
		return nil, fmt.Errorf("%w: group %d", ErrUnknownGroup, pre.group)
	}
	if !queue.reserve() {
		return nil, fmt.Errorf("%w: nobody accepts them", ErrBusy)
	}
	return queue, nil
}

// identify checks who calls and whom.
func (p *ClusterPort) identify(pre preamble, t *tracked) error {
	ours := p.cfg.ClusterID()
	join := pre.kind == KindJoin
	switch {
	case pre.version != preambleVersion:
		return fmt.Errorf("%w: %d, this node speaks %d", ErrVersion, pre.version, preambleVersion)
	case pre.from == "":
		return fmt.Errorf("%w: the caller does not say who it is", ErrWrongNode)
	}
	if p.tls != nil {
		if err := p.cfg.VerifyCertificate(*t.tlsState(), p.tls.expect(ours), pre.from); err != nil {
			if !errors.Is(err, ErrCertificate) {
				err = fmt.Errorf("%w: %w", ErrCertificate, err)
			}
			return err
		}
	}
	switch {
	case !join && ours == "":
		return ErrNotFormed
	case !join && pre.cluster != ours:
		return fmt.Errorf("%w: the caller's is %q", ErrWrongCluster, pre.cluster)
	case pre.to != p.cfg.NodeID && (pre.to != "" || !join):
		return fmt.Errorf("%w: node %q was called", ErrWrongNode, pre.to)
	case !join && pre.from == p.cfg.NodeID:
		return fmt.Errorf("%w: the caller claims this node's own identity", ErrWrongNode)
	}
	return nil
}

// countPeer counts an accepted connection of a node, until it is closed.
func (p *ClusterPort) countPeer(node string, t *tracked) bool {
	p.mu.Lock()
	conns := p.perPeer[node]
	if len(conns) >= p.cfg.MaxPerPeer {
		p.mu.Unlock()
		return false
	}
	if conns == nil {
		conns = map[*tracked]struct{}{}
		p.perPeer[node] = conns
	}
	conns[t] = struct{}{}
	p.mu.Unlock()
	leave := func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if delete(conns, t); len(conns) == 0 && len(p.perPeer[node]) == 0 {
			delete(p.perPeer, node)
		}
	}
	if !t.onClose(leave) {
		leave()
	}
	return true
}

// Expel closes what a node has dialled here. Admit must refuse the node
// already: what it was let in with before does not outlive that.
func (p *ClusterPort) Expel(nodeID string) {
	p.mu.Lock()
	var conns []*tracked
	for t := range p.perPeer[nodeID] {
		conns = append(conns, t)
	}
	p.mu.Unlock()
	for _, t := range conns {
		t.kill()
	}
	if len(conns) > 0 {
		p.lg.Info("connections of a node were closed", zap.String("peer", nodeID), zap.Int("connections", len(conns)))
	}
}

func (p *ClusterPort) welcome(t *tracked, pre preamble) error {
	_ = t.raw.SetWriteDeadline(t.deadline)
	a := answer{version: preambleVersion, kind: pre.kind, status: StatusOK, node: p.cfg.NodeID, cluster: p.cfg.ClusterID()}
	if _, err := t.Conn.Write(appendAnswer(nil, a)); err != nil {
		return fmt.Errorf("answer preamble: %w", err)
	}
	return t.raw.SetDeadline(time.Time{})
}

// refuse tells the caller why, and closes.
func (p *ClusterPort) refuse(t *tracked, pre preamble, cause error) {
	status := statusOf(cause)
	why := status.String()
	p.metrics.reject(why)
	fields := []zap.Field{
		zap.Stringer("peer", t.RemoteAddr()), zap.String("from", pre.from), zap.Stringer("kind", pre.kind),
		zap.Uint32("group", pre.group), zap.Error(cause),
	}
	if status == StatusUnknownGroup || status == StatusNotFormed { // a node that starts: its callers come again
		p.lg.Debug("connection refused", fields...)
	} else {
		p.refusals.Warn("connection refused: "+why, append(fields, zap.String("event", "guard.refused"), zap.String("reason", why))...)
	}
	a := answer{version: preambleVersion, kind: pre.kind, status: status}
	if status != StatusCertificate { // a caller without a proof learns nothing
		a.node, a.cluster, a.message = p.cfg.NodeID, p.cfg.ClusterID(), cause.Error()
	}
	_ = t.raw.SetWriteDeadline(t.deadline)
	_, _ = t.Conn.Write(appendAnswer(nil, a)) // it is closed either way
	_ = t.Close()
}

// statusOf maps an error to what the caller is told.
func statusOf(err error) Status {
	for s := StatusVersion; s < StatusRefused; s++ {
		if errors.Is(err, s.err()) {
			return s
		}
	}
	return StatusRefused
}

// Refused counts a connection that its owner refused after it was handed over.
func (p *ClusterPort) Refused(reason string) { p.metrics.reject(reason) }

// turnedAway reports whoever was refused before there was a preamble to answer.
// Who only went away, or was too slow, is no news: nodes that stop do that.
func (p *ClusterPort) turnedAway(t *tracked, reason string, cause error) {
	level := zap.WarnLevel
	if reason == reasonGone {
		level = zap.DebugLevel
	}
	p.refusals.Log(level, "connection refused: "+reason, zap.Stringer("peer", t.RemoteAddr()), zap.String("event", "guard.refused"),
		zap.String("reason", reason), zap.Error(cause))
}

// nameStranger names why a TLS handshake proved nothing.
func nameStranger(err error) error {
	var chain *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &chain):
		return &rejection{reasonCertificate, err}
	case errors.As(err, &record):
		return &rejection{reasonNotTLS, err}
	case strings.Contains(err.Error(), "didn't provide a certificate"): // crypto/tls has no name for it
		return &rejection{reasonNoCertificate, err}
	}
	return err
}
