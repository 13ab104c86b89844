package api

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

type messageInput struct{ Body client.Message }

func (s *Server) messageRoutes(a huma.API) {
	op := operation("publish", "/messages", "Publish a message; answers when it is committed as for a PUBACK", 413, 422, 429, 507)
	op.Method = http.MethodPost
	op.MaxBodyBytes = maxBody
	answer(s, a, op, s.publish)
}

func (s *Server) publish(ctx context.Context, in *messageInput) (client.Published, error) {
	m := in.Body
	if m.Payload != "" && m.PayloadBase64 != "" {
		return client.Published{}, fmt.Errorf("payload and payload_base64 exclude each other: %w", ErrInvalid)
	}
	if _, err := base64.StdEncoding.DecodeString(m.PayloadBase64); err != nil {
		return client.Published{}, fmt.Errorf("payload_base64 is not base64: %w", ErrInvalid)
	}
	if _, err := base64.StdEncoding.DecodeString(m.Properties.CorrelationBase64); err != nil {
		return client.Published{}, fmt.Errorf("properties.correlation_data_base64 is not base64: %w", ErrInvalid)
	}
	return s.opt.Node.Publish(ctx, m)
}
