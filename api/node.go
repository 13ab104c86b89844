package api

import (
	"context"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

// Node is what the API asks of a node. It is made of small interfaces, so that
// a handler and its test need no more than they use.
type Node interface {
	StatusProvider
	HealthProvider
	ClientLister
	SessionLister
	SubscriptionLister
	RetainedLister
	Publisher
	Operator
	Membership
	Observer
	Backuper
	KeyStore
	KeyAdmin
	Auditor
	Consistent
	Verifier
	Debugger
}

// StatusProvider describes the cluster.
type StatusProvider interface {
	// Status describes the cluster as this node sees it. It asks whom it can
	// reach until ctx ends and answers without a majority, too.
	Status(ctx context.Context) (client.Status, error)
}

// HealthProvider answers the probes. It must not wait for another node or for
// a disk: it reports what is known.
type HealthProvider interface {
	// Health returns the checks of a probe. The probe holds if all are OK.
	Health(Probe) []client.Check
}

// ClientLister lists connected clients in the order of node, then client id.
type ClientLister interface {
	Clients(context.Context, Query) (Page[client.ClientInfo], error)
}

// SessionLister lists sessions in the order of shard, then client id. Detail
// is filled if Query.ID is set.
type SessionLister interface {
	Sessions(context.Context, Query) (Page[client.Session], error)
}

// SubscriptionLister lists subscriptions in the order of shard, then client id,
// then filter.
type SubscriptionLister interface {
	Subscriptions(context.Context, Query) (Page[client.Subscription], error)
}

// RetainedLister lists retained messages in the order of shard, then topic.
type RetainedLister interface {
	Retained(context.Context, Query) (Page[client.Retained], error)
}

// Publisher publishes like a client does.
type Publisher interface {
	// Publish returns when the message is committed as for a PUBACK. The
	// published reason code is 0 or 16; a refusal is an error.
	Publish(context.Context, client.Message) (client.Published, error)
}

// Query selects a page of a list. Empty fields select everything.
type Query struct {
	Tenant string
	// ID selects one thing: the client id of a client or session, the topic of
	// a retained message.
	ID string
	// Client selects the subscriptions of one client id.
	Client string
	// Filter selects the subscriptions with this very filter, or the retained
	// messages whose topics match it.
	Filter string
	// Match selects the subscriptions that match this topic.
	Match string
	// After continues behind the page whose Next it was. Empty: from the start.
	After string
	// Limit is the most items wanted, at least 1.
	Limit int
	// Stale allows an answer from this node's own state, without a majority.
	Stale bool
}

// Page is a part of a list.
type Page[T any] struct {
	Items []T
	// Next continues the list as Query.After, empty at its end. The API shows
	// it to users only as an opaque cursor.
	Next string
	// Count is about how many items there are, or negative if unknown.
	Count int64
}

// Probe is one of the three questions of section 7 of the interfaces.
type Probe byte

// Probes.
const (
	ProbeLive    Probe = iota + 1 // the process makes progress
	ProbeStarted                  // state restored, identity accepted, member of a cluster
	ProbeReady                    // may be sent clients
)

// String is the path of the probe without its slash.
func (p Probe) String() string {
	switch p {
	case ProbeLive:
		return "livez"
	case ProbeStarted:
		return "startupz"
	case ProbeReady:
		return "readyz"
	default:
		return "unknown"
	}
}
