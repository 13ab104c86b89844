package router

// RouteChange is the full record of one filter in one shard; it replaces the record before it.
type RouteChange struct {
	Tenant, Filter string
	Durable        bool
	Shares         bool
	Nodes          []NodeRoute
}

// NodeRoute says that a node has connected subscribers to a filter.
type NodeRoute struct {
	Node        string
	Incarnation uint64
	Any         bool
	Transient   bool
}

// Match is where a publish has to go. It is immutable and may be shared.
type Match struct {
	Durable []uint32
	Shares  []uint32
	Nodes   []NodeRoute
}

// Empty reports that nobody subscribes.
func (m *Match) Empty() bool { return len(m.Durable) == 0 && len(m.Shares) == 0 && len(m.Nodes) == 0 }

// Table is the route table of a gateway, safe for concurrent use.
type Table struct{}

// Explained is one record that takes part in a match.
type Explained struct {
	Shard  uint32
	Change RouteChange
	Hidden []string
}

// NewTable returns an empty Table.
func NewTable() *Table { panic("not yet") }

// Apply applies the changes that a shard made at index; false: the index was not above the last and nothing changed.
func (t *Table) Apply(shard uint32, index uint64, changes []RouteChange) bool { panic("not yet") }

// Reset replaces all records of a shard; false: the index was below the last and nothing changed.
func (t *Table) Reset(shard uint32, index uint64, all []RouteChange) bool { panic("not yet") }

// Index returns the index of the last change of a shard, 0 before the first.
func (t *Table) Index(shard uint32) uint64 { panic("not yet") }

// Match returns where a publish to topic has to go. Never nil.
func (t *Table) Match(tenant string, topic []byte) *Match { panic("not yet") }

// DropNode hides routes to that incarnation of node and to older ones.
func (t *Table) DropNode(node string, incarnation uint64) { panic("not yet") }

// Len returns the number of records, one per (shard, tenant, filter).
func (t *Table) Len() int { panic("not yet") }

// Walk calls fn for every record until it returns false.
func (t *Table) Walk(fn func(shard uint32, c RouteChange) bool) { panic("not yet") }

// Explain returns every record that a publish to topic matches, sorted by filter and shard.
func (t *Table) Explain(tenant string, topic []byte) []Explained { panic("not yet") }
