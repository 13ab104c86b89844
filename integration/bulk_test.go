package integration

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/integration/harness"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// bulk publishes from 0 to count-1 to a topic, pipelined, and returns when all are acknowledged. The payload is the number
// and filling.
func bulk(t testing.TB, n *harness.Node, id, topic string, count, size int) error {
	var refused atomic.Int64
	var acked atomic.Int64
	all := make(chan struct{})
	var once sync.Once
	c, err := mqttc.Dial(t.Context(), mqttc.Options{
		URL: "mqtt://" + n.MQTTAddr(), ClientID: id, Clean: true, KeepAlive: time.Minute,
		OnAck: func(_ *mqttc.Client, a mqttc.Ack) {
			if a.Code >= 0x80 {
				refused.Add(1)
			}
			if acked.Add(1) == int64(count) {
				once.Do(func() { close(all) })
			}
		},
	})
	if err != nil {
		return err
	}
	defer c.Close()
	payload := make([]byte, size)
	for i := range count {
		binary.BigEndian.PutUint64(payload, uint64(i))
		if _, err := c.Send(t.Context(), &mqtt.Publish{Topic: []byte(topic), Payload: payload, QoS: 1}, uint64(i)); err != nil {
			return fmt.Errorf("%s: message %d of %d: %w", id, i, count, err)
		}
	}
	select {
	case <-all:
	case <-c.Done():
		return fmt.Errorf("%s: %d of %d acknowledged: %w", id, acked.Load(), count, c.Err())
	case <-time.After(time.Minute):
		return fmt.Errorf("%s: %d of %d acknowledged after a minute of waiting", id, acked.Load(), count)
	}
	if n := refused.Load(); n > 0 {
		return fmt.Errorf("%s: %d of %d refused", id, n, count)
	}
	return nil
}

// counter receives numbered messages and checks that each comes for the first time in order.
type counter struct {
	next atomic.Uint64 // lowest number not received
	dups atomic.Uint64
	bad  atomic.Pointer[string]
}

func (k *counter) take(p *mqtt.Publish) {
	if len(p.Payload) < 8 {
		return
	}
	i := binary.BigEndian.Uint64(p.Payload)
	switch next := k.next.Load(); {
	case i == next:
		k.next.Store(next + 1)
	case i < next:
		k.dups.Add(1)
	default:
		text := fmt.Sprintf("message %d came when %d was next", i, next)
		k.bad.CompareAndSwap(nil, &text)
	}
}

// collect connects a durable session whose messages are counted.
func collect(t testing.TB, n *harness.Node, id string, k *counter) *mqttc.Client {
	t.Helper()
	c, err := mqttc.Dial(t.Context(), mqttc.Options{
		URL: "mqtt://" + n.MQTTAddr(), ClientID: id, SessionExpiry: sessionExpiry, KeepAlive: time.Minute,
		ReceiveMaximum: 1000, OnMessage: func(_ *mqttc.Client, p *mqtt.Publish) { k.take(p) },
	})
	if err != nil {
		t.Fatalf("connect %s to %s: %v", id, n.ID, err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// expect waits until the counter has seen every message, without a gap.
func (k *counter) expect(t testing.TB, id string, count int, timeout time.Duration) {
	t.Helper()
	harness.Wait(t, timeout, fmt.Sprintf("%s to receive %d messages", id, count), func(context.Context) error {
		if bad := k.bad.Load(); bad != nil {
			return harness.Never(fmt.Errorf("I1 or I4: %s", *bad))
		}
		if got := k.next.Load(); got < uint64(count) {
			return fmt.Errorf("it has %d", got)
		}
		return nil
	})
}

// together runs n functions at a time and reports their errors.
func together(t testing.TB, n int, f func(i int) error) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := f(i); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}
