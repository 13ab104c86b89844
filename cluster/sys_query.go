package cluster

import (
	"context"
	"encoding/json"
	"fmt"
)

// Queries of this part of the room: what operators see and do. Their bodies
// are JSON where they are more than a few fields, since they are rare and grow.
// Numbers are on the wire.
const (
	querySys      byte = 32
	queryDiskLow  byte = 33
	queryClients  byte = 34
	querySessions byte = 35
	queryEvents   byte = 48
	queryNodeInfo byte = 49
	querySettings byte = 50
	queryExplain  byte = 51
	queryPause    byte = 52
)

// answerAdmin answers what handlers.go does not know.
func (n *Node) answerAdmin(ctx context.Context, q byte, d *dec) ([]byte, error) {
	switch q {
	case querySys:
		return json.Marshal(n.sys.sample())
	case queryEvents:
		return n.answerEvents(ctx, d.b)
	case querySettings:
		return answerDecide(ctx, d.b, n.control.changeSettings)
	case queryExplain:
		return n.answerExplain(ctx, d.b)
	case queryPause:
		return n.answerPause(d.b)
	case queryNodeInfo:
		return n.answerNodeInfo(d.b)
	case queryClients:
		return n.answerClients(d.b)
	case querySessions:
		return n.answerSessions(ctx, d.b)
	case queryDiskLow:
		node, low := d.string(), d.bool()
		if err := d.err(); err != nil {
			return nil, err
		}
		n.limits.heard(node, low)
		return nil, nil
	default:
		return nil, fmt.Errorf("%w: query %d is unknown", errFrame, q)
	}
}
