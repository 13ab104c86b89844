package session

import (
	"errors"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/session/qos"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// closeKind says what ended a connection.
type closeKind byte

// The kinds. The zero value means that the connection is not closing.
const (
	closeClient    closeKind = iota + 1 // DISCONNECT
	closeNetwork                        // the stream ended or failed
	closeProtocol                       // the client broke the protocol or a limit
	closeKeepAlive                      // the client was silent for 1.5 times its keep-alive
	closeTakeover                       // another connection has the session
	closeAdmin                          // an operator closed it
	closeDrain                          // the node is drained
	closeShutdown                       // the node stops
	closeSlow                           // the client does not take what is sent to it
	closeBackend                        // an outcome is unknown, or the cluster is unavailable
	closeRefused                        // a refusal that the version cannot express
	closeAuth                           // re-authentication failed
	closeRejected                       // the handshake was refused
	closePanic                          // a bug in this package
)

// cause is why a connection closes.
type cause struct {
	kind closeKind
	// code is what a v5 client is told in DISCONNECT; Success for nothing.
	code mqtt.ReasonCode
	// msg is for the client and the log, err for the log alone: what is behind
	// it concerns nobody outside.
	msg string
	err error
	// server is where the client is sent instead (0x9C).
	server string
	// The client changed its session expiry at DISCONNECT.
	hasExpiry bool
	expiryS   uint32
	withWill  bool
}

// causeOf returns the cause of a kind with its usual code.
func causeOf(k closeKind, msg string) cause { return cause{kind: k, code: k.code(), msg: msg} }

// String is the label of connections_closed_total and of the log.
func (k closeKind) String() string {
	switch k {
	case closeClient:
		return "client"
	case closeNetwork:
		return "network"
	case closeProtocol:
		return "protocol"
	case closeKeepAlive:
		return "keep_alive"
	case closeTakeover:
		return "takeover"
	case closeAdmin:
		return "admin"
	case closeDrain:
		return "drain"
	case closeShutdown:
		return "shutdown"
	case closeSlow:
		return "slow"
	case closeBackend:
		return "unavailable"
	case closeRefused:
		return "refused"
	case closeAuth:
		return "auth"
	case closeRejected:
		return "rejected"
	case closePanic:
		return "panic"
	}
	return "open"
}

// code is the DISCONNECT code of a kind.
func (k closeKind) code() mqtt.ReasonCode {
	switch k {
	case closeProtocol:
		return mqtt.ProtocolError
	case closeKeepAlive:
		return mqtt.KeepAliveTimeout
	case closeTakeover:
		return mqtt.SessionTakenOver
	case closeAdmin, closeDrain:
		return mqtt.AdministrativeAction
	case closeShutdown:
		return mqtt.ServerShuttingDown
	case closeSlow:
		return mqtt.QuotaExceeded
	case closeBackend:
		return mqtt.ServerBusy
	case closeAuth:
		return mqtt.NotAuthorized
	case closePanic:
		return mqtt.UnspecifiedError
	}
	return mqtt.Success
}

// reason is what the session's shard is told.
func (c *cause) reason() command.DisconnectReason {
	switch c.kind {
	case closeClient:
		if c.withWill {
			return command.DisconnectWithWill
		}
		return command.DisconnectNormal
	case closeTakeover:
		return command.DisconnectTakeover
	case closeAdmin, closeDrain, closeShutdown:
		return command.DisconnectKicked
	}
	return command.DisconnectLost
}

// referenceOf returns where a refused client is sent.
func referenceOf(err error) string {
	var r *RefusedError
	if errors.As(err, &r) && (r.Code == mqtt.UseAnotherServer || r.Code == mqtt.ServerMoved) {
		return r.Server
	}
	return ""
}

// causeOfCode returns the cause of a close that another room asks for.
func causeOfCode(code mqtt.ReasonCode, msg string) cause {
	c := cause{code: code, msg: msg}
	switch code {
	case mqtt.SessionTakenOver:
		c.kind = closeTakeover
	case mqtt.ServerShuttingDown:
		c.kind = closeShutdown
	case mqtt.ServerBusy, mqtt.ServerUnavailable, mqtt.ImplementationSpecificError:
		c.kind, c.code = closeBackend, mqtt.ServerBusy
	default:
		c.kind = closeAdmin
	}
	return c
}

// causeOfError returns how a connection ends on an error of the backend.
func causeOfError(err error, msg string) cause {
	c := causeOf(closeBackend, msg)
	if errors.Is(err, ErrStale) {
		c = causeOf(closeTakeover, msg)
	}
	c.err = err
	return c
}

// publicReason returns what a client may know of an error of its handshake.
func publicReason(err error) string {
	var e *mqtt.Error
	var r *RefusedError
	switch {
	case errors.As(err, &e):
		return e.Msg
	case errors.As(err, &r) && r.Msg != "":
		return r.Msg
	}
	return connectCode(err).String()
}

// causeOfInput returns how a connection ends on what its client sent: an error
// of the codec or of package qos.
func causeOfInput(err error) cause {
	c := cause{kind: closeProtocol, msg: err.Error(), code: mqtt.ProtocolError}
	var e *mqtt.Error
	switch {
	case errors.As(err, &e):
		c.code, c.msg = e.Code, e.Msg
		if e.Tag != "" {
			c.msg += " [" + e.Tag + "]"
		}
	case errors.Is(err, qos.ErrReceiveMaximum):
		c.code = mqtt.ReceiveMaximumExceeded
	case errors.Is(err, qos.ErrTooManyIDs):
		c.code = mqtt.QuotaExceeded
	case errors.Is(err, qos.ErrAliasInvalid):
		c.code = mqtt.TopicAliasInvalid
	}
	return c
}

// connectCode returns the CONNACK code for an error of the handshake. The codec
// translates it for older versions.
func connectCode(err error) mqtt.ReasonCode {
	var e *mqtt.Error
	var r *RefusedError
	switch {
	case errors.As(err, &e):
		return e.Code
	case errors.As(err, &r):
		if r.Code.ValidIn(mqtt.TypeConnack) && r.Code.Failed() {
			return r.Code
		}
		return mqtt.UnspecifiedError
	case errors.Is(err, ErrBadCredentials):
		return mqtt.BadUserNameOrPassword
	case errors.Is(err, ErrNotAuthorized):
		return mqtt.NotAuthorized
	case errors.Is(err, ErrBadAuthMethod):
		return mqtt.BadAuthenticationMethod
	}
	// Also for ErrStale, of which the newer connection is told, and when the
	// server stops: CONNACK has no code for that.
	return mqtt.ServerUnavailable
}

// authError makes every error of a hook a denial, so that a broken hook does
// not let anybody in and does not look like an unavailable cluster.
func authError(err error) error {
	var r *RefusedError
	if errors.As(err, &r) || errors.Is(err, ErrBadCredentials) || errors.Is(err, ErrNotAuthorized) || errors.Is(err, ErrBadAuthMethod) {
		return err
	}
	return errors.Join(ErrNotAuthorized, err)
}

// publishCode returns the code for PUBACK or PUBREC, or an error if there is
// none to give: the outcome is unknown.
func publishCode(o Outcome, t mqtt.Type) (mqtt.ReasonCode, error) {
	code := o.Code
	if o.Err != nil {
		var r *RefusedError
		if !errors.As(o.Err, &r) {
			return 0, o.Err
		}
		code = r.Code
		if !code.Failed() {
			return 0, o.Err
		}
	}
	if !code.ValidIn(t) {
		if code.Failed() {
			return mqtt.ImplementationSpecificError, nil
		}
		return mqtt.Success, nil
	}
	return code, nil
}

// refusalLabel is the reason label of publish_refused_total.
func refusalLabel(code mqtt.ReasonCode) string {
	switch code {
	case mqtt.QuotaExceeded:
		return "inbox_full"
	case mqtt.NotAuthorized:
		return "denied"
	case mqtt.TopicNameInvalid:
		return "topic_invalid"
	case mqtt.MessageRateTooHigh:
		return "rate_limited"
	case mqtt.PayloadFormatInvalid:
		return "payload_format"
	}
	return "other"
}
