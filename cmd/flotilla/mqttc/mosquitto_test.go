package mqttc

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// mosquitto starts a foreign broker, so that client and codec are not only
// tested against themselves. The test is skipped where there is none.
func mosquitto(t *testing.T) (mqttURL, wsURL string) {
	t.Helper()
	bin, err := exec.LookPath("mosquitto")
	if err != nil {
		bin = "/usr/sbin/mosquitto"
		if _, err := os.Stat(bin); err != nil {
			t.Skip("mosquitto is not installed")
		}
	}
	port, wsPort := freePort(t), freePort(t)
	conf := filepath.Join(t.TempDir(), "m.conf")
	text := fmt.Sprintf("listener %d 127.0.0.1\nlistener %d 127.0.0.1\nprotocol websockets\nallow_anonymous true\npersistence false\nmax_queued_messages 0\nuser root\n", port, wsPort)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "-c", conf)
	if err := cmd.Start(); err != nil {
		t.Skipf("mosquitto does not start: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	mqttURL, wsURL = fmt.Sprintf("mqtt://127.0.0.1:%d", port), fmt.Sprintf("ws://127.0.0.1:%d", wsPort)
	waitFor(t, "mosquitto to listen", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return mqttURL, wsURL
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestAgainstMosquitto(t *testing.T) {
	mqttURL, wsURL := mosquitto(t)
	for _, url := range []string{mqttURL, wsURL} {
		for _, v := range versions() {
			for qos := range byte(3) {
				if url == wsURL && v == mqtt.V31 {
					continue // mosquitto's websockets know the sub-protocol mqtt only
				}
				t.Run(fmt.Sprintf("%s/%s/qos%d", url[:4], v, qos), func(t *testing.T) { exchange(t, url, v, qos) })
			}
		}
	}
}

// exchange sends 500 messages through a broker and wants them in order, once.
func exchange(t *testing.T, url string, v mqtt.Version, qos byte) {
	const n = 500
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var got []string
	done := make(chan struct{})
	sub, err := Dial(ctx, Options{URL: url, Version: v, ClientID: "sub", Clean: true, OnMessage: func(_ *Client, p *mqtt.Publish) {
		if got = append(got, string(p.Payload)); len(got) == n {
			close(done)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	if _, err := sub.Subscribe(ctx, mqtt.SubscribeFilter{Filter: "x/+", QoS: qos}); err != nil {
		t.Fatal(err)
	}
	var acked atomic.Int64
	pub, err := Dial(ctx, Options{URL: url, Version: v, ClientID: "pub", Clean: true, Window: 20, OnAck: func(*Client, Ack) { acked.Add(1) }})
	if err != nil {
		t.Fatal(err)
	}
	defer pub.Close()
	var want []string
	for i := range n {
		want = append(want, fmt.Sprint(i))
		if _, err := pub.Send(ctx, &mqtt.Publish{Topic: []byte("x/y"), Payload: []byte(want[i]), QoS: qos}, 0); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-done:
	case <-ctx.Done():
		t.Fatal("not all messages came")
	}
	if !slices.Equal(got, want) {
		t.Error("messages came in another order")
	}
	if qos > 0 {
		waitFor(t, "all acknowledgements", func() bool { return acked.Load() == n })
	}
	if err := pub.Disconnect(ctx, mqtt.Success); err != nil {
		t.Error(err)
	}
}
