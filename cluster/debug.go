package cluster

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/flotilla-mqtt/flotilla/cluster/peer"
)

// A node's part of a debug bundle: what its program gathers (Config.Debug) and what the node knows of itself, as files. It travels
// compressed in one answer, so each file is cut where the answer would not fit.

// queryDebug asks for it. The number is on the wire.
const queryDebug byte = 67

const (
	// debugFileMax bounds one file, debugTotalMax all of them before compression.
	debugFileMax  = 2 << 20
	debugTotalMax = 16 << 20
	// debugAnswerMax bounds the compressed answer: it is one frame.
	debugAnswerMax = peer.MaxPayload - 1024
)

// DebugFile is one file of a node's part.
type DebugFile struct {
	Name string `json:"name"`
	Data []byte `json:"data,omitempty"`
	// Error says why it is missing, or what was left out.
	Error string `json:"error,omitempty"`
}

// DebugFiles gathers one node's part, here or elsewhere. *GuardError: there is no such node; ErrUnreachable.
func (n *Node) DebugFiles(ctx context.Context, node string) ([]DebugFile, error) {
	var raw []byte
	var err error
	if node == n.id {
		raw, err = n.answerDebug(ctx)
	} else {
		if rec := n.control.view().Nodes[node]; rec == nil {
			return nil, refuse(GuardNotFound, "there is no node %s in this cluster", node)
		}
		raw, err = n.query(ctx, node, queryDebug, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: ask %s for its part: %w", ErrUnreachable, node, err)
	}
	return unpackDebug(raw)
}

// answerDebug is this node's part.
func (n *Node) answerDebug(ctx context.Context) ([]byte, error) {
	files := []DebugFile{jsonFile("status.json", n.localStatus()), jsonFile("alarms.json", n.Alarms()), jsonFile("control.json", n.controlSummary())}
	if n.cfg.Debug != nil {
		files = append(files, n.cfg.Debug(ctx)...)
	}
	return packDebug(files)
}

func jsonFile(name string, v any) DebugFile {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return DebugFile{Name: name, Error: err.Error()}
	}
	return DebugFile{Name: name, Data: append(b, '\n')}
}

// controlSummary is the control group as this node knows it, without what is secret in it.
func (n *Node) controlSummary() any {
	v := n.control.view()
	nodes := map[string]any{}
	for id, rec := range v.Nodes {
		nodes[id] = map[string]any{
			"state": rec.Status(), "up": rec.Up, "incarnation": rec.Incarnation, "roles": rec.Roles, "zone": rec.Zone, "version": rec.Version,
			"cluster_addr": rec.ClusterAddr, "mqtt_addr": rec.MQTTAddr, "admin_addr": rec.AdminAddr,
		}
	}
	return map[string]any{
		"index": v.Index, "cluster_id": v.ClusterID, "shards": v.Shards, "replicas": v.Replicas, "feature_level": v.FeatureLevel,
		"nodes": nodes, "placement": v.Placement, "settings": v.Settings, "join_tokens": len(v.Tokens), "operations": n.Operations(),
	}
}

// packDebug compresses files. What is too large is cut, and says so.
func packDebug(files []DebugFile) ([]byte, error) {
	total := 0
	for i := range files {
		f := &files[i]
		if room := min(debugFileMax, debugTotalMax-total); len(f.Data) > room {
			f.Error = fmt.Sprintf("cut: it has %d bytes", len(f.Data))
			f.Data = f.Data[:room]
		}
		total += len(f.Data)
	}
	for {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if err := json.NewEncoder(z).Encode(files); err != nil {
			return nil, err
		}
		if err := z.Close(); err != nil {
			return nil, err
		}
		if b.Len() <= debugAnswerMax {
			return b.Bytes(), nil
		}
		largest := &files[0]
		for i := range files {
			if len(files[i].Data) > len(largest.Data) {
				largest = &files[i]
			}
		}
		largest.Error = fmt.Sprintf("left out: it has %d bytes", len(largest.Data))
		largest.Data = nil
	}
}

func unpackDebug(raw []byte) ([]DebugFile, error) {
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return nil, errFrame
	}
	b, err := io.ReadAll(io.LimitReader(z, 2*debugTotalMax)) // base64 is a third more
	if err != nil {
		return nil, errFrame
	}
	var files []DebugFile
	if err := json.Unmarshal(b, &files); err != nil {
		return nil, errFrame
	}
	return files, nil
}
