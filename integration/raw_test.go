package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/integration/harness"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// rawClient speaks MQTT over a plain socket and reads only when it is told to: until then the server's bytes pile up.
type rawClient struct {
	net.Conn
	reader  *mqtt.Reader
	version mqtt.Version
}

// rawTimeout bounds one answer.
const rawTimeout = patience

// smallBuffer keeps the kernel from holding much of what a client does not read. It is above the segments of loopback: below
// them the sender waits for its timer again and again.
const smallBuffer = 192 << 10

// dialRaw connects and waits for CONNACK. The receive buffer is small if deaf is set.
func dialRaw(ctx context.Context, addr string, p *mqtt.Connect, deaf bool) (*rawClient, error) {
	ctx, cancel := context.WithTimeout(ctx, rawTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if deaf {
		if err := conn.(*net.TCPConn).SetReadBuffer(smallBuffer); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	r := &rawClient{Conn: conn, reader: mqtt.NewReader(conn, mqtt.Limits{}), version: p.Version}
	r.reader.SetVersion(p.Version)
	if err := r.send(p); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	answer, err := r.next(rawTimeout)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if ack, ok := answer.(*mqtt.Connack); !ok || ack.Code != mqtt.Success {
		return nil, errors.Join(fmt.Errorf("CONNECT was answered with %v %+v", answer.Type(), answer), conn.Close())
	}
	return r, nil
}

func openRaw(t testing.TB, n *harness.Node, p *mqtt.Connect, deaf bool) *rawClient {
	t.Helper()
	r, err := dialRaw(t.Context(), n.MQTTAddr(), p, deaf)
	if err != nil {
		t.Fatalf("%s: %v", p.ClientID, err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func (r *rawClient) send(p mqtt.Packet) error { return mqtt.WritePacket(r.Conn, r.version, p) }

// next reads one packet.
func (r *rawClient) next(within time.Duration) (mqtt.Packet, error) {
	if err := r.SetReadDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	return r.reader.Next()
}

// subscribe sends SUBSCRIBE and waits for its SUBACK; nothing else may come before it.
func (r *rawClient) subscribe(t testing.TB, filter string, qos byte) {
	t.Helper()
	if err := r.send(&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.SubscribeFilter{{Filter: filter, QoS: qos}}}); err != nil {
		t.Fatal(err)
	}
	p, err := r.next(rawTimeout)
	if ack, ok := p.(*mqtt.Suback); err != nil || !ok || byte(ack.Codes[0]) != qos {
		t.Fatalf("SUBSCRIBE was answered with %+v %v", p, err)
	}
}

// drain reads until nothing comes for the given time or the connection ends, and calls each for every PUBLISH. The error says
// how it ended: os.ErrDeadlineExceeded when all was read.
func (r *rawClient) drain(quiet time.Duration, each func(*mqtt.Publish)) error {
	for {
		p, err := r.next(quiet)
		if err != nil {
			return err
		}
		if pub, ok := p.(*mqtt.Publish); ok {
			each(pub)
		}
	}
}

func stillOpen(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
