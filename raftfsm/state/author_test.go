package state_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// write is a retained message of a connection of a client.
func write(client string, epoch uint64, topic, payload string) []byte {
	by := func(m *command.Message) { m.Publisher = client }
	return command.AppendPublish(nil, &command.Publish{
		Message: msg(topic, payload, 1, retain, by), Flags: command.ToInboxes | command.ToRetained, Epoch: epoch,
	})
}

// I13: what a lane sends again after its client has written over a newer connection replaces and brings back nothing,
// also when the topic holds the value of somebody else, or none, by then.
func TestLateRetained_I13(t *testing.T) {
	for name, c := range map[string]struct {
		then [][]byte
		want string
	}{
		"sent again, then set":     {[][]byte{write("p", 2, "a", "1"), write("p", 2, "a", "2")}, "a=2"},
		"sent again, then deleted": {[][]byte{write("p", 2, "a", "1"), write("p", 2, "a", "")}, ""},
		"set by another client":    {[][]byte{write("p", 2, "a", "1"), write("q", 1, "a", "2")}, "a=2"},
		"deleted by another":       {[][]byte{write("p", 2, "a", "1"), write("q", 1, "a", "")}, ""},
		"deleted before it came":   {[][]byte{write("p", 2, "a", "")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, late := range []string{"1", ""} {
				r := newRig(t, state.Options{})
				in := r.connect("in")
				r.one(command.OK, sub(in, filters(1, "a")...))
				for _, cmd := range c.then {
					r.one(command.OK, cmd)
				}
				queued := len(r.fetch(in))
				for _, restart := range []func(){func() {}, r.restart, r.writeBack, r.restart} {
					restart()
					r.one(command.StaleEpoch, write("p", 1, "a", late))
					if got := strings.Join(retainedValues(t, r.s), " "); got != c.want {
						t.Fatalf("retained %q, want %q", got, c.want)
					}
				}
				if got := len(r.fetch(in)); got != queued {
					t.Errorf("%d messages queued, want %d", got, queued)
				}
			}
		})
	}
}

// A connection that is the last of its client writes what it likes, and what names no epoch is no one's.
func TestRetainedOfTheLastConnection_I13(t *testing.T) {
	r := newRig(t, state.Options{})
	for _, cmd := range [][]byte{
		write("p", 2, "a", "1"), write("p", 2, "a", "2"), write("q", 1, "a", "3"), write("p", 2, "a", "4"), write("p", 5, "a", "5"),
	} {
		r.one(command.OK, cmd)
	}
	older := command.AppendPublish(nil, &command.Publish{Tenant: "t2", Message: msg("a", "6", 1, retain), Flags: command.ToRetained, Epoch: 1})
	r.one(command.OK, older) // another tenant's client of that name
	r.one(command.OK, write("p", 0, "b", "7"))
	r.one(command.OK, write("p\x00q", 1, "c", "8"))
	r.one(command.OK, command.AppendPublish(nil, &command.Publish{Message: msg("d", "9", 1, retain), Flags: command.ToInboxes | command.ToRetained, Epoch: 9}))
	// No retained message: the epoch means nothing.
	r.one(command.NoMatch, command.AppendPublish(nil, &command.Publish{Message: msg("a", "10", 1), Flags: command.ToRetained, Epoch: 1}))
	if got := strings.Join(retainedValues(t, r.s), " "); got != "a=5 b=7 c=8 d=9" {
		t.Errorf("retained %q", got)
	}
}

func retainedValues(t *testing.T, s *state.Shard) (out []string) {
	t.Helper()
	page, err := s.Retained(state.RetainedQuery{Filter: "#", Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	for _, it := range page.Items {
		out = append(out, fmt.Sprintf("%s=%s", it.Msg.Topic, it.Msg.Payload))
	}
	return out
}

// Clients are remembered for an hour, and no more than 65,536 of them; it costs a record per client and ten minutes.
func TestAuthorsAreBounded(t *testing.T) {
	r := newRig(t, state.Options{})
	batch := func(from, n int) {
		var cmds []byte
		for i := from; i < from+n; i++ {
			cmds = append(cmds, write(fmt.Sprintf("c%d", i), 1, "a", "")...)
		}
		r.entry(command.AppendBatch(nil, &command.BatchHeader{}, cmds))
	}
	r.one(command.OK, write("first", 5, "a", ""))
	r.now += 1000
	for i := range 64 {
		batch(i<<10, 1<<10)
	}
	if n := len(state.Authors(r.s)); n != 1<<16 {
		t.Fatalf("%d authors", n)
	}
	r.one(command.OK, write("first", 1, "a", "")) // it made room
	r.writeBack()
	if n := r.st.Count("W"); n != 1<<16 {
		t.Fatalf("%d records", n)
	}
	r.now += 599_000
	batch(0, 1<<10)
	r.restart()
	dirty := r.s.Stats().DirtyBytes
	batch(0, 1<<10)
	if grown := r.s.Stats().DirtyBytes - dirty; grown > 32<<10 {
		t.Errorf("clients that were just noted cost %d bytes more", grown)
	}
	r.now += 3600_000
	for range 33 {
		batch(0, 1<<10)
		r.now += 600_000
	}
	r.writeBack()
	if n, stored := len(state.Authors(r.s)), r.st.Count("W"); n != 1<<10 || stored != n {
		t.Errorf("%d authors are left, %d records", n, stored)
	}
}

// Replicas that remember an author differently have diverged, before it shows.
func TestDigestCoversAuthors_I20(t *testing.T) {
	seen := map[[16]byte]uint64{}
	for _, epoch := range []uint64{0, 1, 2} {
		r := newRig(t, state.Options{})
		r.one(command.OK, write("p", epoch, "a", "1"))
		d := r.digest()
		if other, ok := seen[d]; ok {
			t.Errorf("epochs %d and %d have one digest", other, epoch)
		}
		seen[d] = epoch
	}
}

// A backup takes no authors along and a recovery forgets them: epochs may begin lower in what follows.
func TestAuthorsEndWithTheirEpochs_I8(t *testing.T) {
	r := newRig(t, state.Options{})
	r.one(command.OK, write("p", 9, "a", "1"))
	r.writeBack()
	b := backupOf(t, r.s, r.st)
	for range 2 {
		r.one(command.OK, recoverCmd(command.Recover{}))
		r.writeBack()
		r.restart()
		r.one(command.OK, write("p", 1, "a", "2"))
		r.one(command.OK, write("p", 9, "a", "3"))
		r.writeBack()
		r.restart()
	}
	dst := newRig(t, state.Options{})
	dst.one(command.OK, write("p", 9, "a", ""))
	dst.writeBack()
	b.stage(dst, 10)
	dst.one(command.OK, b.load())
	dst.one(command.OK, step(command.RestoreOpen))
	dst.one(command.OK, write("p", 1, "a", "2"))
	dst.writeBack()
	if n := dst.st.Count("W"); n != 1 {
		t.Errorf("%d records", n)
	}
}
