package cluster

import (
	"errors"
	"fmt"
	"testing"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

func forwardFrame(target, source, seq uint64, msgs ...outgoing) []byte {
	b := &laneBatch{}
	for i := range msgs {
		b.body = appendForward(b.body, &msgs[i], true, nil)
	}
	return sealForward(target)(command.BatchHeader{Incarnation: source, Seq: seq}, b)
}

func outgoingOf(topic string, origin command.OriginKey) outgoing {
	m := command.Message{Topic: []byte(topic), QoS: 2}
	return outgoing{tenant: "t", msg: &m, raw: m.Append(nil), origin: origin}
}

// TestForwardSinkTakesEachFrameOnce_I2: repeated frames deliver nothing,
// frames out of sequence and frames for another process are refused.
func TestForwardSinkTakesEachFrameOnce_I2(t *testing.T) {
	var got []string
	s := newForwardSink(func() uint64 { return 9 }, func(f *forwarded, m *command.Message) { got = append(got, f.tenant+":"+string(m.Topic)) })
	none := command.OriginKey{}
	steps := []struct {
		name  string
		frame []byte
		want  error
	}{
		{"first", forwardFrame(9, 4, 1, outgoingOf("a", none), outgoingOf("b", none)), nil},
		{"repeated", forwardFrame(9, 4, 1, outgoingOf("a", none), outgoingOf("b", none)), nil},
		{"gap", forwardFrame(9, 4, 3, outgoingOf("x", none)), errForwardGap},
		{"next", forwardFrame(9, 4, 2, outgoingOf("c", none)), nil},
		{"older process of the source", forwardFrame(9, 3, 1, outgoingOf("x", none)), errForwardStale},
		{"for another process of this node", forwardFrame(8, 4, 3, outgoingOf("x", none)), errForwardStale},
		{"newer process of the source", forwardFrame(9, 5, 1, outgoingOf("d", none)), nil},
		{"malformed", forwardFrame(9, 5, 2, outgoingOf("x", none))[:6], errFrame},
	}
	for _, st := range steps {
		if err := s.handle("n1", st.frame); !errors.Is(err, st.want) {
			t.Fatalf("%s: got %v, want %v", st.name, err, st.want)
		}
	}
	if fmt.Sprint(got) != "[t:a t:b t:c t:d]" {
		t.Fatalf("delivered %v", got)
	}
}

// TestForwardSinkSkipsKnownOrigins_I2: a message that a shard originated is
// delivered once, whichever leader forwards it.
func TestForwardSinkSkipsKnownOrigins_I2(t *testing.T) {
	n := 0
	s := newForwardSink(func() uint64 { return 9 }, func(*forwarded, *command.Message) { n++ })
	send := func(from string, seq uint64, key command.OriginKey) {
		t.Helper()
		if err := s.handle(from, forwardFrame(9, 1, seq, outgoingOf("w", key))); err != nil {
			t.Fatal(err)
		}
	}
	send("n1", 1, command.OriginKey{Shard: 2, Seq: 7, Low: 5})
	send("n3", 1, command.OriginKey{Shard: 2, Seq: 7, Low: 5}) // the next leader repeats it
	send("n3", 2, command.OriginKey{Shard: 2, Seq: 4, Low: 5}) // below the mark: long done
	if n != 1 {
		t.Fatalf("delivered %d times, want 1", n)
	}
	send("n3", 3, command.OriginKey{Shard: 3, Seq: 7, Low: 5}) // another shard
	send("n3", 4, command.OriginKey{Shard: 2, Seq: 8, Low: 8})
	if n != 3 {
		t.Fatalf("delivered %d messages, want 3", n)
	}
	if len(s.origins[2].above) != 1 {
		t.Fatalf("%d keys are kept below the mark", len(s.origins[2].above)-1)
	}
}

// TestForwardPositionBelongsToAnIncarnation: a frame that was judged under the old incarnation and noted
// under the new one must not make repeats of the first frames of the new stream.
func TestForwardPositionBelongsToAnIncarnation(t *testing.T) {
	s := newForwardSink(func() uint64 { return 2 }, nil)
	for seq := uint64(1); seq <= 3; seq++ {
		if fresh, err := s.advance("n2", forwardHeader{targetInc: 1, sourceInc: 5, seq: seq}); !fresh || err != nil {
			t.Fatalf("frame %d of the old stream: %v, %v", seq, fresh, err)
		}
	}
	if fresh, err := s.advance("n2", forwardHeader{targetInc: 2, sourceInc: 5, seq: 1}); !fresh || err != nil {
		t.Errorf("the first frame of the new stream: fresh %v, %v", fresh, err)
	}
	if fresh, err := s.advance("n2", forwardHeader{targetInc: 1, sourceInc: 5, seq: 4}); fresh || err == nil {
		t.Errorf("a late frame of the old stream: fresh %v, %v", fresh, err)
	}
}
