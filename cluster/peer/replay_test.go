package peer

import (
	"encoding/binary"
	"errors"
	"net"
	"testing"
	"testing/synctest"
)

// A recording of a link is not served again, whether the link lives or not.
func TestReplayedLinkIsNotServed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		handled := 0
		b := NewNode("b", nil, map[Kind]Handler{KindForward: func(string, []byte, func([]byte, error)) { handled++ }}, nil, Options{})
		defer b.Close()
		stream := func(boot, dial uint64) []byte {
			id := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, boot), dial)
			return appendFrame(appendFrame(nil, kindLink, 0, 0, id), KindForward, 0, 0, []byte("x"))
		}
		serve := func(boot, dial uint64) (net.Conn, chan error) {
			near, far := net.Pipe()
			res := make(chan error, 1)
			go func() { res <- b.Serve(far, "a") }()
			_, _ = near.Write(stream(boot, dial))
			synctest.Wait()
			return near, res
		}
		live, ended := serve(7, 3)
		for _, dial := range []uint64{3, 2} {
			if _, res := serve(7, dial); !errors.Is(<-res, ErrSuperseded) || handled != 1 {
				t.Errorf("dial %d beside a link that lives: %d frames were handled", dial, handled)
			}
		}
		live.Close()
		<-ended
		if _, res := serve(7, 3); !errors.Is(<-res, ErrSuperseded) || handled != 1 {
			t.Errorf("behind its end: %d frames were handled", handled)
		}
		next, _ := serve(7, 4)
		if handled != 2 {
			t.Errorf("the next link: %d frames were handled", handled)
		}
		next.Close()
		if other, _ := serve(8, 1); handled != 3 {
			t.Errorf("the next process: %d frames were handled", handled)
		} else {
			other.Close()
		}
	})
}
