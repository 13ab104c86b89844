package cluster

import (
	"runtime"
	runtimemetrics "runtime/metrics"
	"time"
)

// memoryGCEvery is how often a collection is asked for to learn what is in
// use: a heap that is nobody's is no reason to refuse clients.
const memoryGCEvery = 2 * time.Second

// memoryMeter measures the memory of this process. It belongs to one goroutine.
type memoryMeter struct {
	collected time.Time
	cycles    uint64
	samples   []runtimemetrics.Sample
}

// Places of the samples of a memoryMeter.
const (
	memTotal = iota
	memReleased
	memFree
	memUnused
	memObjects
	memLive
	memCycles
)

// used returns the bytes that are in use. While that may be more than high,
// garbage is left out, which may take a collection.
func (m *memoryMeter) used(high int64) int64 {
	if m.samples == nil {
		for _, name := range []string{
			"/memory/classes/total:bytes", "/memory/classes/heap/released:bytes", "/memory/classes/heap/free:bytes",
			"/memory/classes/heap/unused:bytes", "/memory/classes/heap/objects:bytes", "/gc/heap/live:bytes", "/gc/cycles/total:gc-cycles",
		} {
			m.samples = append(m.samples, runtimemetrics.Sample{Name: name})
		}
	}
	most := m.read()
	// A tenth below the mark an alarm ends, so garbage counts from there on.
	if most < high-high/10 {
		return most
	}
	if now := time.Now(); m.value(memCycles) == m.cycles && now.Sub(m.collected) >= memoryGCEvery {
		runtime.GC()
		most = m.read()
		m.collected = time.Now()
	}
	if c := m.value(memCycles); c != m.cycles {
		m.cycles, m.collected = c, time.Now()
	}
	return most - int64(m.value(memObjects)) + int64(min(m.value(memLive), m.value(memObjects)))
}

// read takes the samples and returns what is mapped and not free, garbage
// included.
func (m *memoryMeter) read() int64 {
	runtimemetrics.Read(m.samples)
	return int64(m.value(memTotal)) - int64(m.value(memReleased)) - int64(m.value(memFree)) - int64(m.value(memUnused))
}

func (m *memoryMeter) value(i int) uint64 {
	if m.samples[i].Value.Kind() != runtimemetrics.KindUint64 {
		return 0
	}
	return m.samples[i].Value.Uint64()
}
