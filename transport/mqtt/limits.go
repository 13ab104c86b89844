package mqtt

// Limits bound what a peer may make the reader hold. They are checked before
// anything is allocated. 0 in any numeric field means the default.
type Limits struct {
	// MaxPacketSize is the size of a whole packet in bytes, header included.
	// Default 1 MiB. Broken: PacketTooLarge.
	MaxPacketSize uint32
	// MaxConnectSize is the same for CONNECT, which comes before
	// authentication. Default 64 KiB. Broken: PacketTooLarge.
	MaxConnectSize uint32
	// MaxUserProperties is the number of user properties in one packet (the
	// will counts on its own). Default 64. Broken: QuotaExceeded.
	MaxUserProperties int
	// MaxPropertyBytes is the length of one property section in bytes.
	// Default 8 KiB. Broken: PacketTooLarge.
	MaxPropertyBytes int
	// MaxTopicBytes is the length of a topic name or filter in bytes. Default
	// 1,024. Broken: TopicNameInvalid or TopicFilterInvalid.
	MaxTopicBytes int
	// MaxTopicLevels is the number of levels of a topic name. Default 128.
	// Broken: TopicNameInvalid. Filters are the router's to judge.
	MaxTopicLevels int
	// MaxFilters is the number of filters in one SUBSCRIBE or UNSUBSCRIBE.
	// Default 64. Broken: QuotaExceeded.
	MaxFilters int
	// Buffers lends larger read buffers to connections that are busy. All
	// readers of a server should share one; nil gives each reader its own.
	Buffers *BufferPool
}

// withDefaults replaces zero fields.
func (l Limits) withDefaults() Limits {
	if l.MaxPacketSize == 0 {
		l.MaxPacketSize = 1 << 20
	}
	if l.MaxConnectSize == 0 {
		l.MaxConnectSize = 64 << 10
	}
	for _, f := range []struct {
		to *int
		n  int
	}{
		{&l.MaxUserProperties, 64}, {&l.MaxPropertyBytes, 8 << 10}, {&l.MaxTopicBytes, 1024},
		{&l.MaxTopicLevels, 128}, {&l.MaxFilters, 64},
	} {
		if *f.to == 0 {
			*f.to = f.n
		}
	}
	if l.Buffers == nil {
		l.Buffers = NewBufferPool()
	}
	return l
}

// DefaultLimits returns the defaults, with a new BufferPool: call it once per
// server and pass copies.
func DefaultLimits() Limits { return Limits{}.withDefaults() }
