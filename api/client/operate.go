package client

import "time"

// Paths of what operators change.
const (
	PathShares = "/api/v1/shares"
	PathAlarms = "/api/v1/alarms"
)

// Kicked says where a client was disconnected.
type Kicked struct {
	ClientID string `json:"client_id"`
	Node     string `json:"node"`
}

// InboxMessage is a message that waits for a session.
type InboxMessage struct {
	Seq           uint64     `json:"seq"`
	Topic         string     `json:"topic"`
	QoS           byte       `json:"qos"`
	Retain        bool       `json:"retain"`
	State         string     `json:"state" doc:"queued; sent: not acknowledged yet; received: PUBREC came, PUBCOMP not yet"`
	PayloadBytes  int        `json:"payload_bytes"`
	PayloadBase64 string     `json:"payload_base64"`
	PublishedAt   *time.Time `json:"published_at" nullable:"true"`
	ExpiresAt     *time.Time `json:"expires_at" nullable:"true"`
}

// Share is a shared subscription: a queue and who takes from it.
type Share struct {
	Name       string        `json:"name"`
	Filter     string        `json:"filter" doc:"Without $share and name."`
	Shard      uint32        `json:"shard"`
	Queue      uint64        `json:"queue" doc:"Messages that no member has acknowledged."`
	QueueBytes uint64        `json:"queue_bytes"`
	Assigned   uint64        `json:"assigned" doc:"Of them, those that are with a member."`
	Members    []ShareMember `json:"members" nullable:"false"`
}

// ShareMember is a session that takes part in a share.
type ShareMember struct {
	ClientID string  `json:"client_id"`
	Online   bool    `json:"online"`
	Node     *string `json:"node" nullable:"true" doc:"Node id of the connection, or null."`
	Room     int     `json:"room" doc:"Messages that it may have at once."`
	Assigned int     `json:"assigned"`
	QoS      byte    `json:"qos"`
}

// RetainedMessage is one retained message, with its payload.
type RetainedMessage struct {
	Retained
	PayloadBase64 string     `json:"payload_base64"`
	Properties    Properties `json:"properties,omitzero"`
}

// Deleted says what was deleted, or with dry_run would be.
type Deleted struct {
	DryRun bool     `json:"dry_run"`
	Count  int      `json:"count"`
	Topics []string `json:"topics" nullable:"false" doc:"The first of them, at most 1000."`
}

// Alarm is a condition that an operator should mend.
type Alarm struct {
	Name   string    `json:"name" doc:"memory_high, disk_low"`
	Node   string    `json:"node"`
	Detail string    `json:"detail"`
	Since  time.Time `json:"since"`
}
