package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

// Backuper takes the state of the cluster out and brings it back.
type Backuper interface {
	// Backup writes a backup. begun is called once, before the first byte, when it is sure to begin. An error after
	// that means that what was written is no backup.
	Backup(ctx context.Context, w io.Writer, begun func(client.BackupInfo) error) error
	// Restore takes a backup in and begins to restore it. size is -1 if it is not known.
	Restore(ctx context.Context, r io.Reader, size int64) (client.Operation, error)
}

// restoreInput gives the handler the body as it comes: it may be larger than the memory.
type restoreInput struct {
	body io.Reader
	size int64
}

// Resolve implements huma.Resolver.
func (in *restoreInput) Resolve(hc huma.Context) []error {
	in.body, in.size = hc.BodyReader(), -1
	if n, err := strconv.ParseInt(hc.Header("Content-Length"), 10, 64); err == nil {
		in.size = n
	}
	return nil
}

func (s *Server) backupRoutes(a huma.API) {
	op := operation("get-backup", "/backup", "Everything that the cluster holds, as a file", 409)
	op.Description = "A stream of " + client.BackupType + ". It is whole only if it ends with its trailer: flotilla cluster backup --check FILE."
	op.Responses = map[string]*huma.Response{"200": {
		Description: "The backup.", Content: map[string]*huma.MediaType{client.BackupType: {Schema: &huma.Schema{Type: "string", Format: "binary"}}},
	}}
	huma.Register(a, op, func(context.Context, *struct{}) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: s.sendBackup}, nil
	})

	op = operation("restore", "/restore", "Bring a backup back into an empty cluster", 409, 422, 507)
	op.Method, op.DefaultStatus, op.MaxBodyBytes, op.BodyReadTimeout = http.MethodPost, http.StatusAccepted, -1, -1
	op.Description = "The body is a backup. What is damaged or does not fit is refused before anything is changed; from the answer on no node serves clients until the operation is done."
	op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{client.BackupType: {Schema: &huma.Schema{Type: "string", Format: "binary"}}}}
	huma.Register(a, op, func(ctx context.Context, in *restoreInput) (*accepted, error) {
		out, err := s.opt.Node.Restore(ctx, in.body, in.size)
		if err != nil {
			return nil, s.problemFor("restore", err)
		}
		return &accepted{Location: client.One(client.PathOperations, out.ID), Body: out}, nil
	})
}

// sendBackup answers with a backup, or with a problem as long as nothing was sent. After that a failure can only break
// the connection: the file has no trailer.
func (s *Server) sendBackup(hc huma.Context) {
	begun := false
	err := s.opt.Node.Backup(hc.Context(), hc.BodyWriter(), func(info client.BackupInfo) error {
		begun = true
		name := fmt.Sprintf("flotilla-%s.backup", info.CreatedAt.UTC().Format("20060102T150405Z"))
		hc.SetHeader("Content-Type", client.BackupType)
		hc.SetHeader("Content-Disposition", `attachment; filename="`+name+`"`)
		hc.SetHeader("Cache-Control", "no-store")
		hc.SetStatus(http.StatusOK)
		return nil
	})
	if err == nil {
		return
	}
	if begun {
		if !errors.Is(err, context.Canceled) {
			s.lg.Error("a backup broke off", eventField("backup.failed"), errField(err))
		}
		panic(http.ErrAbortHandler)
	}
	p := s.problemFor("get-backup", err)
	var known *problem
	if !errors.As(p, &known) {
		known = newProblem(500, client.CodeInternal, "the node failed to answer; its log says why")
	}
	r, w := humago.Unwrap(hc)
	s.writeProblem(w, r, known)
}
