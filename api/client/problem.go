package client

import "fmt"

// Problem is an RFC 9457 problem body, and an error.
type Problem struct {
	Type         string          `json:"type" doc:"urn:flotilla:problem:<code>"`
	Title        string          `json:"title"`
	Status       int             `json:"status"`
	Detail       string          `json:"detail,omitempty"`
	Instance     string          `json:"instance,omitempty" doc:"Path of the request."`
	Code         string          `json:"code" doc:"Stable name of the problem."`
	Node         string          `json:"node,omitempty" doc:"Node that answered."`
	Hints        []string        `json:"hints,omitempty" doc:"What to do next."`
	Errors       []ProblemDetail `json:"errors,omitempty"`
	RetryAfterMS int64           `json:"retry_after_ms,omitempty"`
}

// ProblemDetail is one thing that is wrong with a request.
type ProblemDetail struct {
	Location string `json:"location,omitempty"`
	Message  string `json:"message"`
	Value    any    `json:"value,omitempty"`
}

// Codes of problems. They are part of the contract.
const (
	CodeUnauthenticated     = "unauthenticated"
	CodeForbidden           = "forbidden"
	CodeNotFound            = "not-found"
	CodeMethodNotAllowed    = "method-not-allowed"
	CodeNotAcceptable       = "not-acceptable"
	CodeConflict            = "conflict"
	CodeQuorumAtRisk        = "quorum-at-risk"
	CodeOperationInProgress = "operation-in-progress"
	CodeVersionMismatch     = "version-mismatch"
	CodeTooLarge            = "too-large"
	CodeUnsupportedMedia    = "unsupported-media-type"
	CodeInvalid             = "invalid"
	CodeLimitExceeded       = "limit-exceeded"
	CodeInternal            = "internal"
	CodeNotImplemented      = "not-implemented"
	CodeNodeUnreachable     = "node-unreachable"
	CodeNoLeader            = "no-leader"
	CodeNotCaughtUp         = "not-caught-up"
	CodeStorageFull         = "storage-full"
)

// ProblemType is the type member of a problem with that code.
func ProblemType(code string) string { return "urn:flotilla:problem:" + code }

// Error is one line: the detail, or the title where there is none.
func (p *Problem) Error() string {
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	for _, d := range p.Errors {
		if d.Location == "" {
			text += "; " + d.Message
			continue
		}
		text += fmt.Sprintf("; %s: %s", d.Location, d.Message)
	}
	return fmt.Sprintf("%s (%s)", text, p.Code)
}
