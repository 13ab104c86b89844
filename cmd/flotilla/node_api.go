package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/flotilla-mqtt/flotilla/api"
	"github.com/flotilla-mqtt/flotilla/api/client"
	"github.com/flotilla-mqtt/flotilla/cluster"
	"github.com/flotilla-mqtt/flotilla/router"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// nodeAPI shows a cluster.Node to package api.
type nodeAPI struct {
	n *cluster.Node
}

var _ api.Node = (*nodeAPI)(nil)

// Status implements api.StatusProvider.
func (a *nodeAPI) Status(ctx context.Context) (client.Status, error) {
	st := a.n.Status(ctx)
	out := client.Status{ClusterID: st.ClusterID, Healthy: st.Healthy, Reasons: st.Reasons, FeatureLevel: st.FeatureLevel}
	for _, n := range st.Nodes {
		out.Nodes = append(out.Nodes, client.Node{
			ID: n.ID, State: n.State, Roles: n.Roles, Zone: n.Zone, ClusterAddr: n.ClusterAddr, MQTTAddr: n.MQTTAddr, AdminAddr: n.AdminAddr,
			Version: n.Version, Clients: n.Clients, LastContactMS: n.LastContactMS, Incarnation: n.Incarnation,
			Sessions: n.Sessions, LagEntries: n.LagEntries, DiskFreeBytes: n.DiskFreeBytes, StartedAt: n.StartedAt,
			MessagesReceived: n.MessagesReceived, MessagesSent: n.MessagesSent,
		})
	}
	for _, g := range st.Groups {
		out.Groups = append(out.Groups, client.Group(g))
	}
	return out, nil
}

// Health implements api.HealthProvider.
func (a *nodeAPI) Health(p api.Probe) []client.Check {
	var checks []cluster.Check
	switch p {
	case api.ProbeLive:
		checks = a.n.LiveChecks()
	case api.ProbeStarted:
		checks = a.n.StartupChecks()
	default:
		checks = a.n.ReadyChecks()
	}
	out := make([]client.Check, len(checks))
	for i, c := range checks {
		out[i] = client.Check(c)
	}
	return out
}

// Sessions implements api.SessionLister.
func (a *nodeAPI) Sessions(ctx context.Context, q api.Query) (api.Page[client.Session], error) {
	page := api.Page[client.Session]{Count: -1}
	if err := a.caughtUp(q); err != nil {
		return page, err
	}
	if q.ID != "" {
		s, ok, err := a.n.Session(ctx, q.ID)
		if ok {
			page.Items = []client.Session{sessionOf(s)}
		}
		return page, apiError(err)
	}
	items, next, err := a.n.Sessions(ctx, cluster.ListOptions{After: q.After, Limit: q.Limit, Stale: q.Stale})
	for _, s := range items {
		page.Items = append(page.Items, sessionOf(s))
	}
	page.Next = next
	return page, apiError(err)
}

func sessionOf(s cluster.SessionStatus) client.Session {
	return client.Session{
		ClientID: s.ClientID, Durable: s.Durable, Connected: s.Connected, Owner: s.Owner, Epoch: s.Epoch, Shard: s.Shard,
		ExpiryS: s.ExpiryS, ExpiresAt: s.ExpiresAt, Subscriptions: s.Subscriptions,
		InboxDepth: s.InboxDepth, InboxBytes: s.InboxBytes, Inflight: s.Inflight,
		Will: (*client.Will)(s.Will), AwaitingPubrel: s.AwaitingPubrel, OldestMessageAt: s.OldestMessageAt, Dropped: s.Dropped,
	}
}

// Subscriptions implements api.SubscriptionLister. The node pages by session,
// so a position is the page of the node and how many of its subscriptions are
// done: "12|<position>".
func (a *nodeAPI) Subscriptions(ctx context.Context, q api.Query) (api.Page[client.Subscription], error) {
	page := api.Page[client.Subscription]{Count: -1}
	if err := a.caughtUp(q); err != nil {
		return page, err
	}
	skip, after := splitSkip(q.After)
	for {
		items, next, err := a.n.Subscriptions(ctx, q.Client, cluster.ListOptions{After: after, Limit: q.Limit, Stale: q.Stale})
		if err != nil {
			return page, apiError(err)
		}
		for i, s := range items {
			if i < skip || !selectsSubscription(q, s) {
				continue
			}
			if len(page.Items) == q.Limit {
				page.Next = strconv.Itoa(i) + "|" + after
				return page, nil
			}
			page.Items = append(page.Items, client.Subscription(s))
		}
		if next == "" {
			return page, nil
		}
		skip, after = 0, next
		if len(page.Items) == q.Limit {
			page.Next = "0|" + next
			return page, nil
		}
	}
}

func splitSkip(position string) (skip int, after string) {
	n, after, ok := strings.Cut(position, "|")
	skip, err := strconv.Atoi(n)
	if !ok || err != nil {
		return 0, ""
	}
	return skip, after
}

func selectsSubscription(q api.Query, s cluster.SubscriptionStatus) bool {
	if q.Filter != "" && s.Filter != q.Filter {
		return false
	}
	if q.Match == "" {
		return true
	}
	_, inner, _, err := router.SplitShare(s.Filter)
	return err == nil && router.Matches(inner, []byte(q.Match))
}

// Retained implements api.RetainedLister.
func (a *nodeAPI) Retained(ctx context.Context, q api.Query) (api.Page[client.Retained], error) {
	page := api.Page[client.Retained]{Count: -1}
	if err := a.caughtUp(q); err != nil {
		return page, err
	}
	filter := q.Filter
	if q.ID != "" {
		if err := a.checkTopic(q.ID); err != nil {
			return page, fmt.Errorf("topic %q: %w: %w", q.ID, err, api.ErrInvalid)
		}
		filter = q.ID
	}
	if filter != "" {
		if err := a.checkFilter(filter); err != nil {
			return page, fmt.Errorf("filter %q: %w: %w", filter, err, api.ErrInvalid)
		}
	}
	items, next, err := a.n.RetainedList(ctx, filter, q.After, q.Limit)
	for _, r := range items {
		page.Items = append(page.Items, client.Retained(r))
	}
	page.Next = next
	return page, apiError(err)
}

// Publish implements api.Publisher.
func (a *nodeAPI) Publish(ctx context.Context, m client.Message) (client.Published, error) {
	if err := a.checkTopic(m.Topic); err != nil {
		return client.Published{}, fmt.Errorf("topic %q: %w: %w", m.Topic, err, api.ErrInvalid)
	}
	if m.Topic == "$SYS" || strings.HasPrefix(m.Topic, "$SYS/") {
		return client.Published{}, fmt.Errorf("topic %q belongs to the broker: %w", m.Topic, api.ErrInvalid)
	}
	payload := []byte(m.Payload)
	if m.PayloadBase64 != "" {
		payload, _ = base64.StdEncoding.DecodeString(m.PayloadBase64) // package api has checked it
	}
	if most := int(a.n.Limits().MaxPacketSize); len(payload)+len(m.Topic) > most {
		return client.Published{}, fmt.Errorf("the message has more than %d bytes: %w", most, api.ErrInvalid)
	}
	props, err := messageProps(m.Properties)
	if err != nil {
		return client.Published{}, fmt.Errorf("properties: %w: %w", err, api.ErrInvalid)
	}
	code, err := a.n.PublishMessage(ctx, cluster.NewMessage{
		Topic: m.Topic, Payload: payload, QoS: m.QoS, Retain: m.Retain, Props: props, ExpiryS: m.Properties.ExpiryS,
	})
	if err != nil {
		return client.Published{}, apiError(err)
	}
	rc := mqtt.ReasonCode(code)
	if rc.Failed() {
		return client.Published{}, a.refusal(rc)
	}
	return client.Published{ReasonCode: code, Reason: rc.String()}, nil
}

func messageProps(p client.Properties) ([]byte, error) {
	m := mqtt.MessageProps{PayloadIsUTF8: p.PayloadIsUTF8, ContentType: p.ContentType, ResponseTopic: p.ResponseTopic}
	if p.CorrelationBase64 != "" {
		m.Correlation, _ = base64.StdEncoding.DecodeString(p.CorrelationBase64) // package api has checked it
	}
	names := make([]string, 0, len(p.User))
	for k := range p.User {
		names = append(names, k)
	}
	slices.Sort(names)
	for _, k := range names {
		m.UserProperties = append(m.UserProperties, mqtt.UserProperty{Key: k, Value: p.User[k]})
	}
	return m.Append(nil)
}

// refusal says in HTTP's words what a PUBACK would have said.
func (a *nodeAPI) refusal(rc mqtt.ReasonCode) error {
	for _, al := range a.n.Alarms() {
		if rc == mqtt.QuotaExceeded && al.Name == "disk_low" {
			return fmt.Errorf("the publish was refused: %s: %w", al.Detail, api.ErrStorageFull)
		}
	}
	err := api.ErrNoLeader
	switch rc {
	case mqtt.QuotaExceeded, mqtt.MessageRateTooHigh:
		err = api.ErrLimitExceeded
	case mqtt.TopicNameInvalid, mqtt.PayloadFormatInvalid, mqtt.PacketTooLarge, mqtt.RetainNotSupported, mqtt.QoSNotSupported:
		err = api.ErrInvalid
	}
	return fmt.Errorf("the publish was refused: %s (0x%02x): %w", rc, byte(rc), err)
}

// caughtUp refuses a list that must not be stale while this node cannot know
// better: without a lease it may be on the wrong side of a partition.
func (a *nodeAPI) caughtUp(q api.Query) error {
	if q.Stale {
		return nil
	}
	for _, c := range a.n.ReadyChecks() {
		if !c.OK && (c.Name == "formed" || c.Name == "registered" || c.Name == "lease") {
			return fmt.Errorf("%s: %w", c.Detail, api.ErrNotCaughtUp)
		}
	}
	return nil
}

// apiError gives errors of package cluster the names that package api knows.
func apiError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, cluster.ErrNoLeader):
		return &namedError{err, api.ErrNoLeader}
	case errors.Is(err, cluster.ErrUnreachable):
		return &namedError{err, api.ErrNodeUnreachable}
	case errors.Is(err, cluster.ErrLeaseLost), errors.Is(err, cluster.ErrStopped), errors.Is(err, cluster.ErrLaneReset):
		return &namedError{err, api.ErrNotCaughtUp}
	default:
		return err
	}
}

// namedError is an error under another name.
type namedError struct {
	err  error
	name error
}

func (e *namedError) Error() string { return e.err.Error() }

func (e *namedError) Unwrap() []error { return []error{e.err, e.name} }
