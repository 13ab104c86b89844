package client

// PathExplain is where the cluster explains itself: /topic/{topic} and /client/{id}.
const PathExplain = "/api/v1/explain"

// TopicExplanation says where a publish to a topic goes, as the answering node routes it.
type TopicExplanation struct {
	Topic   string             `json:"topic"`
	Node    string             `json:"node" doc:"The node that answers."`
	Filters []ExplainedFilter  `json:"filters" nullable:"false" doc:"Filters that match."`
	Shards  []ExplainedShard   `json:"shards" nullable:"false" doc:"Shards that have a part in it: inboxes, shares, the retained message."`
	Nodes   []string           `json:"nodes" nullable:"false" doc:"Nodes with connected subscribers."`
	Shares  []ExplainedShare   `json:"shares" nullable:"false"`
	Durable int                `json:"durable_sessions" doc:"Durable sessions whose inbox gets a QoS 1 or 2 publish."`
	Keeps   *ExplainedRetained `json:"retained,omitempty" doc:"The retained message; absent if there is none."`
	Limits  map[string]string  `json:"limits" doc:"Settings that bound a publish."`
	Refused []string           `json:"refused" nullable:"false" doc:"Why this node would not acknowledge a publish now; empty if it would."`
}

// ExplainedFilter is a filter that matches a topic, in one shard.
type ExplainedFilter struct {
	Filter string   `json:"filter"`
	Shard  uint32   `json:"shard"`
	Stored bool     `json:"durable" doc:"A durable session has it with QoS 1 or 2."`
	Shares []string `json:"shares" nullable:"false"`
	Nodes  []string `json:"nodes" nullable:"false" doc:"Nodes with connected subscribers."`
}

// ExplainedShard is a shard that has a part in a publish.
type ExplainedShard struct {
	Shard    uint32   `json:"shard"`
	Leader   *string  `json:"leader" nullable:"true" doc:"Null if there is none that answers."`
	Why      []string `json:"why" nullable:"false" doc:"inboxes, share, retained"`
	Sessions int      `json:"sessions" doc:"Durable sessions that match."`
	Online   int      `json:"connected"`
	Full     int      `json:"full" doc:"Of them, those whose inbox has no room."`
	First    []string `json:"first" nullable:"false" doc:"Some of their client ids."`
}

// ExplainedShare is a share that gets a copy.
type ExplainedShare struct {
	Name    string   `json:"name"`
	Filter  string   `json:"filter"`
	Shard   uint32   `json:"shard"`
	Members int      `json:"connected_members"`
	Nodes   []string `json:"nodes" nullable:"false"`
}

// ExplainedRetained is the retained message of a topic.
type ExplainedRetained struct {
	Shard uint32 `json:"shard"`
	Retained
}

// ClientExplanation says where a client id lives and how it is with it.
type ClientExplanation struct {
	ClientID string      `json:"client_id"`
	Shard    uint32      `json:"shard"`
	Leader   *string     `json:"leader" nullable:"true"`
	Replicas []string    `json:"replicas" nullable:"false"`
	Session  *Session    `json:"session,omitempty" doc:"Absent if there is none."`
	Client   *ClientInfo `json:"client,omitempty" doc:"The connection; absent if there is none."`
	Full     bool        `json:"inbox_full"`
	Room     int         `json:"room" doc:"How many more messages it may be sent before it acknowledges one; -1 if it is not connected."`
	Replays  []string    `json:"pending_replays" nullable:"false" doc:"Filters whose retained messages are still to come."`
	Last     *Event      `json:"last_event,omitempty" doc:"The newest event of the client that a node remembers: the reason of the last disconnect is there."`
	Reasons  []string    `json:"reasons" nullable:"false" doc:"Sentences: connected or why not, what holds messages back."`
}
