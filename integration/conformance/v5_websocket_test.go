package conformance

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/coder/websocket"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt/mqtttest"
)

// webSocket opens a WebSocket to the shared broker.
func webSocket(t *testing.T, offered ...string) *websocket.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "ws://"+broker(t).Addrs().MQTT+"/mqtt", &websocket.DialOptions{Subprotocols: offered})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.CloseNow() })
	return ws
}

func TestWebSocketSubprotocol_v5_MQTT_6_0_0_4_v311_MQTT_6_0_0_4(t *testing.T) {
	t.Parallel()
	for _, offered := range [][]string{{"mqtt"}, {"other", "mqtt"}, {"mqttv3.1", "mqtt"}} {
		if got := webSocket(t, offered...).Subprotocol(); got != "mqtt" {
			t.Errorf("offered %v: selected %q", offered, got)
		}
	}
}

// TestWebSocketFrames: a packet in many frames, many packets in one.
func TestWebSocketFrames_v5_MQTT_6_0_0_2_v311_MQTT_6_0_0_2(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ws := webSocket(t, "mqtt")
	topic := own("ws")
	wire := mqtttest.Wire(fmt.Sprintf("10 [('MQTT') 05 02 0000 [] ('%s')] 82 [0001 [] ('%s') 00]", own("c"), topic))
	for _, b := range wire {
		if err := ws.Write(ctx, websocket.MessageBinary, []byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	wire = mqtttest.Wire(fmt.Sprintf("30 [('%[1]s') [] '1'] 30 [('%[1]s') [] '2'] C0 [] 30 [('%[1]s') [] '3']", topic))
	if err := ws.Write(ctx, websocket.MessageBinary, wire); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	for !bytes.HasSuffix(got.Bytes(), []byte{'3'}) {
		kind, b, err := ws.Read(ctx)
		if err != nil || kind != websocket.MessageBinary {
			t.Fatalf("frame of kind %v: %v; so far % X", kind, err, got.Bytes())
		}
		got.Write(b)
	}
	rd := mqtt.NewReader(&got, mqtt.Limits{})
	rd.SetVersion(v5)
	var messages, others int
	for range 6 {
		p, err := rd.Next()
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := p.(*mqtt.Publish); ok {
			messages++
		} else {
			others++
		}
	}
	if messages != 3 || others != 3 {
		t.Errorf("%d messages and %d other packets, want CONNACK, SUBACK, PINGRESP and 3 messages", messages, others)
	}
}

func TestWebSocketTextFrame_v5_MQTT_6_0_0_1_v311_MQTT_6_0_0_1(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ws := webSocket(t, "mqtt")
	if err := ws.Write(ctx, websocket.MessageBinary, mqtttest.Wire(fmt.Sprintf("10 [('MQTT') 05 02 0000 [] ('%s')]", own("c")))); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ws.Read(ctx); err != nil {
		t.Fatal(err)
	}
	if err := ws.Write(ctx, websocket.MessageText, []byte{0xC0, 0}); err != nil {
		t.Fatal(err)
	}
	for {
		_, b, err := ws.Read(ctx)
		if ctx.Err() != nil {
			t.Fatal("the connection is still open")
		}
		if err != nil {
			return
		}
		if len(b) == 2 && b[0] == 0xD0 {
			t.Fatal("a text frame was answered with PINGRESP")
		}
	}
}
