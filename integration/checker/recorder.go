package checker

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Recorder collects the events of a run. It may be used by several goroutines at a time.
type Recorder struct {
	start time.Time

	mu     sync.Mutex
	events []Event // guarded by mu
}

// NewRecorder starts the clock of a run.
func NewRecorder() *Recorder { return &Recorder{start: time.Now()} }

// Now is the time of the run: monotonic, never 0.
func (r *Recorder) Now() int64 { return int64(time.Since(r.start)) + 1 }

// Add appends an event. If T is 0 it is now.
func (r *Recorder) Add(e Event) {
	if e.T == 0 {
		e.T = r.Now()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// Events returns what was recorded until now; the slice is the caller's.
func (r *Recorder) Events() []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Event(nil), r.events...)
}

// Len is how many events were recorded.
func (r *Recorder) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.events)
}

// Save writes the history as JSON lines.
func (r *Recorder) Save(path string) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return Write(f, r.Events())
}

// Write writes events as JSON lines.
func Write(w io.Writer, events []Event) error {
	out := bufio.NewWriterSize(w, 1<<20)
	enc := json.NewEncoder(out)
	for i := range events {
		if err := enc.Encode(&events[i]); err != nil {
			return fmt.Errorf("write event %d: %w", i, err)
		}
	}
	return out.Flush()
}

// Read reads JSON lines.
func Read(r io.Reader) ([]Event, error) {
	var events []Event
	dec := json.NewDecoder(bufio.NewReaderSize(r, 1<<20))
	for {
		var e Event
		if err := dec.Decode(&e); errors.Is(err, io.EOF) {
			return events, nil
		} else if err != nil {
			return nil, fmt.Errorf("read event %d: %w", len(events)+1, err)
		}
		events = append(events, e)
	}
}
