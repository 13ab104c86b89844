package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

// Verifier compares replicas.
type Verifier interface {
	// Verify compares the replicas of all groups at one index each, and says what it found. A difference is no error.
	Verify(context.Context, client.VerifyRequest) (client.Verification, error)
}

const (
	// verifyTimeout bounds a comparison of digests, deepTimeout one that reads every record.
	verifyTimeout = time.Minute
	deepTimeout   = time.Hour
)

type verifyInput struct{ Body client.VerifyRequest }

func (s *Server) verifyRoutes(a huma.API) {
	op := operation("verify", "/verify", "Compare the replicas of every group", 422)
	op.Method = http.MethodPost
	op.Description = "Answers when all replicas have been compared. Replicas that differ are in the answer, not an error."
	huma.Register(a, op, func(ctx context.Context, in *verifyInput) (*body[client.Verification], error) {
		limit := verifyTimeout
		if in.Body.Deep {
			limit = deepTimeout
		}
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		out, err := s.opt.Node.Verify(ctx, in.Body)
		if err != nil {
			return nil, s.problemFor(op.OperationID, err)
		}
		out.Groups = filled(out.Groups)
		for i := range out.Groups {
			out.Groups[i].Replicas = filled(out.Groups[i].Replicas)
		}
		return &body[client.Verification]{out}, nil
	})
}
