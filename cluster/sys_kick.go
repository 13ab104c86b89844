package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// Kicks of many clients are operations of the node that was asked: they change nothing
// that is replicated, so they end with that node, and membership does not wait for them.

const (
	// kicksKept is how many operations a node remembers.
	kicksKept = 100
	// kicksRunning is how many run at a time.
	kicksRunning = 4
	// kickPage is how many clients are read at a time.
	kickPage = 500
	// maxKickRate is the highest rate: above it a rate is none.
	maxKickRate = 10_000
)

// KickRequest selects clients that are to be disconnected.
type KickRequest struct {
	// Filter is what a client must be, by field of ClientStatus: node, client_id,
	// username, peer, listener, transport, mqtt_version, clean_start.
	Filter map[string]string
	// Rate is how many are disconnected a second. 0: 100.
	Rate float64
	// Reason is the code of DISCONNECT.
	Reason byte
	DryRun bool
}

// kickFields read the fields that a KickRequest may name.
func kickFields() map[string]func(*ClientStatus) string {
	return map[string]func(*ClientStatus) string{
		"node":         func(c *ClientStatus) string { return c.Node },
		"client_id":    func(c *ClientStatus) string { return c.ClientID },
		"username":     func(c *ClientStatus) string { return c.Username },
		"peer":         func(c *ClientStatus) string { return c.Peer },
		"listener":     func(c *ClientStatus) string { return c.Listener },
		"transport":    func(c *ClientStatus) string { return c.Transport },
		"mqtt_version": func(c *ClientStatus) string { return strings.TrimSuffix(c.Version.String(), ".0") },
		"clean_start":  func(c *ClientStatus) string { return fmt.Sprint(c.CleanStart) },
	}
}

// kickBook holds the operations of this node.
type kickBook struct {
	mu  sync.Mutex
	ops []*kickOperation // guarded by mu, oldest first
}

type kickOperation struct {
	st     OperationStatus
	cancel context.CancelFunc
}

// list are copies, newest first.
func (b *kickBook) list() []OperationStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]OperationStatus, 0, len(b.ops))
	for _, o := range slices.Backward(b.ops) {
		out = append(out, o.st)
	}
	return out
}

// cancel ends an operation, if it is one of this node.
func (b *kickBook) cancel(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, o := range b.ops {
		if o.st.ID == id {
			o.cancel()
		}
	}
}

// add takes an operation in, unless too many run.
func (b *kickBook) add(o *kickOperation) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	running := 0
	for _, other := range b.ops {
		if other.st.State == command.OperationRunning.String() {
			running++
		}
	}
	if running >= kicksRunning {
		return false
	}
	b.ops = append(b.ops, o)
	if len(b.ops) > kicksKept { // the oldest that has ended: one that runs must stay to be cancelled, and to be counted
		i := slices.IndexFunc(b.ops, func(o *kickOperation) bool { return o.st.State != command.OperationRunning.String() })
		b.ops = slices.Delete(b.ops, i, i+1)
	}
	return true
}

func (b *kickBook) update(o *kickOperation, fn func(*OperationStatus)) OperationStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	fn(&o.st)
	o.st.UpdatedAt = time.Now().UTC()
	return o.st
}

// KickClients disconnects the clients that match, at a rate, and returns at once. Who has
// connected after the call is left alone, so that nobody is disconnected twice. Errors:
// *GuardError, and those of ClientList.
func (n *Node) KickClients(ctx context.Context, req KickRequest) (OperationStatus, error) {
	fields := kickFields()
	if len(req.Filter) == 0 {
		return OperationStatus{}, refuse(GuardInvalid, "a filter is needed, such as node=n2: to send all clients of a node away, drain it")
	}
	for k := range req.Filter {
		if fields[k] == nil {
			return OperationStatus{}, refuse(GuardInvalid, "clients have no field %q: use one of %s", k, strings.Join(sortedKeys(fields), ", "))
		}
	}
	if req.Rate == 0 {
		req.Rate = 100
	}
	if req.Rate < 0 || req.Rate > maxKickRate {
		return OperationStatus{}, refuse(GuardInvalid, "the rate is %v clients a second: use 1 to %d", req.Rate, maxKickRate)
	}
	began := time.Now()
	matching, err := n.kickTargets(ctx, &req, began)
	if err != nil {
		return OperationStatus{}, err
	}
	st := OperationStatus{
		ID: fmt.Sprintf("op-%013d-%s", began.UnixMilli(), randomHex(2)), Kind: "kick", State: command.OperationRunning.String(), Total: uint32(len(matching)),
		Progress: fmt.Sprintf("%d clients match", len(matching)), StartedAt: began.UTC(), UpdatedAt: began.UTC(),
	}
	if req.DryRun {
		st.ID, st.State = "", ""
		return st, nil
	}
	kctx, cancel := context.WithCancel(n.ctx)
	o := &kickOperation{st: st, cancel: cancel}
	if !n.kicks.add(o) {
		cancel()
		return OperationStatus{}, refuse(GuardBusy, "%d operations of this kind run on this node: wait for one, or cancel it", kicksRunning)
	}
	n.events.add(&Event{Type: "operation.started", Operation: st.ID, Message: st.Progress, Data: map[string]any{"kind": "kick", "done": 0, "total": st.Total}})
	n.lg.Info("clients are sent away", zap.String("event", "client.kicks"), zap.String("op", st.ID), zap.Int("clients", len(matching)), zap.Any("filter", req.Filter))
	n.spawn(func() { defer cancel(); n.runKick(kctx, o, matching, &req) })
	return st, nil
}

// kickTargets are the clients that match and were connected before.
func (n *Node) kickTargets(ctx context.Context, req *KickRequest, before time.Time) (out []ClientStatus, err error) {
	fields := kickFields()
	for after := ""; ; {
		page, next, err := n.ClientList(ctx, ListOptions{After: after, Limit: kickPage})
		if err != nil {
			return nil, err
		}
		for i := range page {
			c := &page[i]
			matches := !c.ConnectedAt.After(before)
			for k, want := range req.Filter {
				matches = matches && fields[k](c) == want
			}
			if matches {
				out = append(out, ClientStatus{Node: c.Node, ClientInfo: c.ClientInfo})
			}
		}
		if next == "" {
			return out, nil
		}
		after = next
	}
}

func (n *Node) runKick(ctx context.Context, o *kickOperation, list []ClientStatus, req *KickRequest) {
	began := time.Now()
	kicked := 0
	for i := range list {
		due := began.Add(time.Duration(float64(i) / req.Rate * float64(time.Second)))
		if wait := time.Until(due); wait > 0 && sleep(ctx, wait) != nil || ctx.Err() != nil {
			n.endKick(o, command.OperationCancelled, fmt.Sprintf("%d of %d clients were disconnected", kicked, len(list)))
			return
		}
		ask, cancel := context.WithTimeout(ctx, sysTimeout)
		p, err := n.clientsOf(ask, list[i].Node, clientQuery{ID: list[i].ClientID, Kick: req.Reason, Epoch: list[i].Epoch})
		cancel()
		if err == nil && p.Kicked {
			kicked++
		}
		n.kicks.update(o, func(st *OperationStatus) {
			st.Done, st.Progress = uint32(i+1), fmt.Sprintf("%d clients were disconnected", kicked)
		})
	}
	n.endKick(o, command.OperationDone, fmt.Sprintf("%d of %d clients were disconnected", kicked, len(list)))
}

func (n *Node) endKick(o *kickOperation, to command.OperationState, how string) {
	st := n.kicks.update(o, func(st *OperationStatus) { st.State, st.Progress = to.String(), how })
	n.events.add(&Event{Type: "operation." + st.State, Operation: st.ID, Message: how, Data: map[string]any{"kind": "kick", "done": st.Done, "total": st.Total}})
}

// NodeOperations are the operations that single nodes carry out, of all that answer.
func (n *Node) NodeOperations(ctx context.Context) (out []OperationStatus) {
	answers, _ := n.gatherInfo(ctx, "", &nodeInfoQuery{Operations: true}) // who does not answer is left out
	for _, a := range answers {
		out = append(out, a.Operations...)
	}
	slices.SortFunc(out, func(a, b OperationStatus) int { return strings.Compare(b.ID, a.ID) })
	return out
}

// CancelNodeOperation ends an operation that a single node carries out; false if there is
// none with this id.
func (n *Node) CancelNodeOperation(ctx context.Context, id string) (OperationStatus, bool) {
	_, _ = n.gatherInfo(ctx, "", &nodeInfoQuery{Cancel: id})
	for _, o := range n.NodeOperations(ctx) {
		if o.ID == id {
			return o, true
		}
	}
	return OperationStatus{}, false
}
