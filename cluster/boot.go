package cluster

import (
	"context"
	"fmt"
	"net"
	"time"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/router"
	"github.com/flotilla-mqtt/flotilla/transport"
)

// bootPoll is how often boot looks whether the next step is possible.
const bootPoll = 20 * time.Millisecond

// boot takes the node from its identity to serving clients. Each step waits
// for what it needs; a node without a majority waits here, and a later
// majority lets it go on.
func (n *Node) boot() {
	err := n.bootSteps()
	switch {
	case err == nil, n.ctx.Err() != nil:
	default:
		n.fatal(fmt.Errorf("start: %w", err))
	}
}

func (n *Node) bootSteps() error {
	n.lg.Info("node starts", zap.String("event", "server.start"), zap.String("data_dir", n.cfg.DataDir),
		zap.String("cluster_addr", n.port.Addr().String()), zap.String("version", n.cfg.Version))
	if !n.ident.Formed {
		f := &formation{cfg: &n.cfg, id: n.ident, self: n.self, lg: n.lg, clusterID: n.proof.ClusterID, dial: func(ctx context.Context, addr string) (net.Conn, error) {
			conn, _, err := n.port.DialPeer(ctx, addr, transport.KindJoin)
			return conn, err
		}}
		n.hellos.set(f.hello())
		if err := f.run(n.ctx, n.hellos); err != nil {
			return err
		}
		n.formed.Store(true)
	}
	n.hellos.set(hello{Self: n.self, Agreed: n.ident.Agreed, Formed: true})
	if err := n.control.open(n.ident.Agreed); err != nil {
		return err
	}
	if err := understands(n.control.view()); err != nil {
		return err
	}
	if err := n.reopenShards(); err != nil {
		return err
	}
	if err := n.until(func() bool { return n.control.view().ClusterID != "" }); err != nil {
		return err
	}
	n.makeLanes(n.control.view())
	n.spawn(n.followControl)
	n.spawn(n.followState)
	n.spawn(n.watchReplicas)
	n.spawn(n.keepLease)
	n.spawn(n.followSettings)
	if err := n.until(n.mayRoute); err != nil {
		return err
	}
	n.server.SetLimits(n.limitsOf(n.control.view())) // before the first client, not with the next look
	n.serve()
	return nil
}

// until waits for a state of this node.
func (n *Node) until(cond func() bool) error {
	t := time.NewTicker(bootPoll)
	defer t.Stop()
	for !cond() {
		select {
		case <-n.ctx.Done():
			return context.Cause(n.ctx)
		case <-t.C:
		}
	}
	return nil
}

// outcomeLimit is how long a caller waits for an outcome at most (I26).
func (n *Node) outcomeLimit() time.Duration { return n.leaseLength() + time.Second }

// makeLanes opens one lane per shard. The number of shards is fixed when the
// cluster is formed.
func (n *Node) makeLanes(v *state.ControlView) {
	slots := make([]uint32, router.Slots)
	for i := range slots {
		slots[i] = v.Shard(uint16(i))
	}
	n.slots.Store(&slots)
	lanes := make([]*lane, v.Shards+1)
	giveUp := n.outcomeLimit()
	for id := uint32(1); id <= v.Shards; id++ {
		l := newLane(id, n.id, n, sealBatch, giveUp, n.met)
		l.stale = n.fenced.Store
		lanes[id] = l
		n.met.laneResends.WithLabelValues(shardLabel(id)) // whoever asks for an increase sees the first one
		n.spawn(func() { l.run(n.ctx) })
	}
	n.lanes.Store(&lanes)
	n.routes.expect(v.Shards)
}

func (n *Node) lane(shard uint32) *lane { return (*n.lanes.Load())[shard] }

// allLanes is empty until the cluster is formed.
func (n *Node) allLanes() []*lane {
	if p := n.lanes.Load(); p != nil {
		return (*p)[1:]
	}
	return nil
}

// understands says whether this program knows all that the cluster uses. The feature level rises when all nodes
// know the next one, and is never lowered: an older program would apply the same commands to another end.
func understands(v *state.ControlView) error {
	if v.FeatureLevel > knownFeatureLevel {
		return fmt.Errorf("%w: the cluster uses feature level %d, this program knows %d: start this node with the release that the others run",
			ErrIdentity, v.FeatureLevel, knownFeatureLevel)
	}
	return nil
}

// followControl keeps the node in line with the control group.
func (n *Node) followControl() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		v := n.control.view()
		if err := understands(v); err != nil {
			n.fatal(err)
			return
		}
		n.openShards(v)
		n.pruneForwards(v)
		n.followRestore()
		n.noteKeys(v)
		n.expelRemoved()
		for id, rec := range v.Nodes {
			if !rec.Up {
				n.routes.table.DropNode(id, rec.Incarnation)
			} else if rec.Incarnation > 0 {
				n.routes.table.DropNode(id, rec.Incarnation-1)
			}
		}
		for _, l := range n.ledShards() {
			l.kick()
		}
		n.met.routesTotal.Set(float64(n.routes.table.Len()))
		n.wakeRemote()
		select {
		case <-n.ctx.Done():
			return
		case <-n.control.changed:
		case <-tick.C:
		}
	}
}

// mayRoute tells whether this node may match a message, let a client in or
// acknowledge: the lease is held and the route table is whole (DESIGN.md
// section 4). On a partial view a message would miss subscribers that nobody
// else sends it to.
// While a backup is being restored, no node may.
func (n *Node) mayRoute() bool {
	return n.lease.held() && n.routes.whole.Load() && n.control.view().Restore == nil
}

// serve lets clients in.
func (n *Node) serve() {
	n.limits.start()
	n.sys.start()
	n.acceptAll()
	n.serving.Store(true)
	n.met.ready.Set(1)
	n.lg.Info("clients are served", zap.String("event", "node.joined"), zap.String("cluster_id", n.ClusterID()))
}
