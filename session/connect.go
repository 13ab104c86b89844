package session

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/session/qos"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// maxID31 is how many characters a client id of MQTT 3.1 may have.
const maxID31 = 23

// handshake takes the connection from its first byte to CONNACK. false means
// that it is closing.
func (c *Conn) handshake() bool {
	cfg := &c.srv.cfg
	_ = c.nc.SetReadDeadline(c.meta.AcceptedAt.Add(cfg.ConnectTimeout))
	p, err := c.rd.Next()
	start := c.srv.now()
	if err != nil {
		c.refuseInput(err)
		return false
	}
	cn, ok := p.(*mqtt.Connect)
	if !ok { // v5:MQTT-3.1.0-1: the codec refuses it as well
		c.refuseInput(&mqtt.Error{Code: mqtt.ProtocolError, Tag: "v5:MQTT-3.1.0-1", Msg: "the first packet is not CONNECT"})
		return false
	}
	c.srv.m.received[mqtt.TypeConnect].Inc()
	c.inBytes += c.rd.Size()
	c.setVersion(cn.Version)
	ack, err := c.admit(cn)
	if err == nil {
		err = c.attach(cn, ack)
	}
	if err != nil {
		c.reject(connectCode(err), err)
		return false
	}
	// A silent client is the wheel's business from here on.
	_ = c.nc.SetReadDeadline(time.Time{})
	if c.closing.Load() {
		return false
	}
	c.srv.m.connect[bit(c.durable)].Observe(seconds(time.Duration(c.srv.now() - start)))
	return true
}

func (c *Conn) setVersion(v mqtt.Version) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version = v
}

// admit checks what can be checked without the cluster and returns the CONNACK
// to be.
func (c *Conn) admit(cn *mqtt.Connect) (*mqtt.Connack, error) {
	cfg := &c.srv.cfg
	c.problemInfo = cn.RequestProblemInfo
	c.maxPacket = cn.MaximumPacketSize
	if c.srv.refusing() {
		return nil, c.srv.moved(ErrRefused(mqtt.ServerUnavailable, "node is draining"))
	}
	if n := cfg.MaxConnections; n > 0 && c.srv.live.Load() >= int64(n) {
		return nil, ErrRefused(mqtt.QuotaExceeded, "too many connections")
	}
	ack := &mqtt.Connack{
		ReceiveMaximum:    c.lim.ReceiveMaximum,
		MaximumPacketSize: c.lim.MaxPacketSize,
		TopicAliasMaximum: c.lim.TopicAliasMaximum,
		RetainUnavailable: !c.lim.RetainAvailable,
		SharedUnavailable: !cfg.SharedAvailable,

		WildcardUnavailable:        !cfg.WildcardAvailable,
		SubscriptionIDsUnavailable: !cfg.SubscriptionIDsAvailable,
	}
	if c.lim.MaxQoS < 2 {
		ack.HasMaximumQoS, ack.MaximumQoS = true, c.lim.MaxQoS
	}
	id, assigned, err := c.clientID(cn)
	if err != nil {
		return nil, err
	}
	if assigned {
		ack.AssignedClientID = id
	}
	if cn.RequestResponseInfo && cfg.ResponsePrefix != "" { // v5:MQTT-3.1.2-28
		ack.ResponseInfo = cfg.ResponsePrefix + id + "/"
	}
	c.cleanStart = cn.CleanStart
	c.setKeepAlive(cn, ack)
	if err := c.authenticate(cn, id, ack); err != nil {
		return nil, err
	}
	return ack, c.checkWill(cn.Will)
}

// clientID returns the id, and whether the server chose it.
func (c *Conn) clientID(cn *mqtt.Connect) (id string, assigned bool, err error) {
	id = cn.ClientID
	if id == "" {
		// v311:MQTT-3.1.3-8; MQTT 3.1 wants an id in any case.
		if cn.Version == mqtt.V31 || cn.Version == mqtt.V311 && !cn.CleanStart {
			return "", false, ErrRefused(mqtt.ClientIdentifierNotValid, "client id is empty")
		}
		var b [16]byte
		_, _ = rand.Read(b[:])
		return "auto-" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:])), true, nil
	}
	if cn.Version == mqtt.V31 && utf8.RuneCountInString(id) > maxID31 { // v31:3.1
		return "", false, ErrRefused(mqtt.ClientIdentifierNotValid, "client id has more than 23 characters")
	}
	if len(id) > c.srv.cfg.MaxClientIDBytes {
		return "", false, ErrRefused(mqtt.ClientIdentifierNotValid, "client id is too long")
	}
	// A wildcard in an id would be one in every rule that is made of it.
	if strings.ContainsAny(id, "+#\x00") || !utf8.ValidString(id) {
		return "", false, ErrRefused(mqtt.ClientIdentifierNotValid, "client id has a character that is not allowed")
	}
	return id, false, nil
}

// setKeepAlive caps the keep-alive of v5 clients, which are told.
func (c *Conn) setKeepAlive(cn *mqtt.Connect, ack *mqtt.Connack) {
	s := cn.KeepAlive
	if limit := uint16(c.lim.MaxKeepAlive / time.Second); limit > 0 && cn.Version == mqtt.V5 && (s == 0 || s > limit) {
		s = limit
		ack.HasServerKeepAlive, ack.ServerKeepAlive = true, s
	}
	c.keepAliveS = s
	c.keepAlive = time.Duration(s) * time.Second
}

// expiry returns the session expiry interval to ask for, in seconds.
func (c *Conn) expiry(cn *mqtt.Connect) uint32 {
	limit := uint32(c.lim.MaxSessionExpiry / time.Second)
	if cn.Version == mqtt.V5 {
		if !cn.HasSessionExpiry {
			return 0
		}
		return min(cn.SessionExpiry, limit)
	}
	if cn.CleanStart {
		return 0
	}
	return limit
}

// attach asks the cluster for the session and makes this its live connection.
func (c *Conn) attach(cn *mqtt.Connect, ack *mqtt.Connack) error {
	s := c.srv
	ctx, cancel := context.WithTimeout(c.ctx, s.cfg.BackendTimeout)
	defer cancel()
	req := ConnectRequest{
		Key:   command.SessionKey{Tenant: c.ident.Tenant, ClientID: c.ident.ClientID},
		Token: randomToken(), CleanStart: cn.CleanStart, ExpiryS: c.expiry(cn),
		ReceiveMax: cn.ReceiveMaximum, Version: cn.Version, Username: c.ident.Username,
		ConnectedAt: time.Now().UnixMilli(), SameUser: s.verifies,
	}
	if req.ReceiveMax == 0 {
		req.ReceiveMax = 65535
	}
	if cn.Will != nil {
		req.Will = c.will(cn.Will)
	}
	s.reg.begin(req.Key)
	at, err := s.be.Sessions.Connect(ctx, req)
	if err != nil {
		s.reg.abandon(req.Key)
		return err
	}
	c.ref = at.Ref
	c.expiryS = req.ExpiryS
	if req.ExpiryS != 0 && at.ExpiryS != 0 {
		c.expiryS = at.ExpiryS
	}
	c.durable = req.ExpiryS != 0
	if !c.durable && len(at.AwaitingRelease) > 0 {
		c.stored = make(map[uint16]struct{}, len(at.AwaitingRelease))
		for _, pid := range at.AwaitingRelease {
			c.stored[pid] = struct{}{}
		}
	}
	c.connectedAt = time.UnixMilli(req.ConnectedAt)
	if cn.Version == mqtt.V5 && c.expiryS != cn.SessionExpiry {
		ack.HasSessionExpiry, ack.SessionExpiry = true, c.expiryS
	}
	ack.SessionPresent = at.Present
	c.greet(cn, &at, ack, req.ReceiveMax)

	old, code := s.reg.attach(req.Key, c)
	if code != 0 {
		c.close(causeOfCode(code, "superseded while connecting"))
		return nil
	}
	if old != nil {
		s.takenOver(old, "local")
	}
	if err := c.restore(ctx, &at); err != nil {
		c.close(causeOfError(err, "a subscription that is not allowed any more was not removed"))
		return nil
	}
	s.opened(c, at.Present)
	c.begin()
	return nil
}

// greet puts the CONNACK into the outbox, in front of everything, and holds it
// there until what the session holds is routable.
func (c *Conn) greet(cn *mqtt.Connect, at *Attached, ack *mqtt.Connack, receiveMax uint16) {
	cfg := &c.srv.cfg
	c.mu.Lock()
	defer c.mu.Unlock()
	quota := uint16(65535) // 3.x clients know no quota: waitRoom slows them
	ids := cfg.MaxAwaitingRelease
	if c.version == mqtt.V5 {
		// The client's own count grows by each PUBCOMP, also by those for ids
		// of an earlier connection: it may be ahead of ours by so many.
		quota = uint16(min(int(c.lim.ReceiveMaximum)+len(at.AwaitingRelease), 65535))
		ids = max(ids, int(quota)+len(at.AwaitingRelease))
	}
	c.pulls = c.durable || at.Present
	c.in = qos.NewInbound(quota, ids)
	c.in.Resume(at.AwaitingRelease)
	c.win = qos.NewWindow(receiveMax)
	if c.version == mqtt.V5 {
		c.aliasIn = qos.NewAliasIn(c.lim.TopicAliasMaximum)
		if n := min(cn.TopicAliasMaximum, c.lim.TopicAliasMaximum); n > 0 {
			c.aliasOut, c.aliases = qos.NewAliasOut(n), true
		}
	}
	if c.cause.kind != 0 {
		return
	}
	c.held, c.greeted = true, true
	if !c.fits(ack) { // what the client can do without goes first
		ack.ResponseInfo = ""
	}
	c.appendLocked(ack)
}

// restore makes the subscriptions of a resumed session known to the fan-out.
// Those that the rules do not allow any more end.
func (c *Conn) restore(ctx context.Context, at *Attached) error {
	var denied []string
	for i := range at.Subs {
		sub := &at.Subs[i]
		if !c.srv.maySubscribe(c, innerFilter(sub.Filter), sub.QoS) {
			denied = append(denied, sub.Filter)
			continue
		}
		c.addLocal(sub)
	}
	if len(denied) > 0 {
		if _, err := c.srv.be.Sessions.Unsubscribe(ctx, c.ref, denied); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range at.Replays {
		if r := &at.Replays[i]; !slices.Contains(denied, r.Sub.Filter) {
			c.replays = append(c.replays, &replay{sub: r.Sub, after: r.After, inbox: true})
		}
	}
	return nil
}

// begin lets the CONNACK go and starts delivery.
func (c *Conn) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause.kind != 0 {
		return
	}
	c.held = false
	c.flushLocked()
	if c.pulls {
		c.due = true
		c.wantPumpLocked()
	}
	if c.keepAlive > 0 {
		c.srv.wheel.add(c, c.srv.now()+int64(c.keepAlive*3/2))
	}
}

// refuseInput answers what is not a valid CONNECT.
func (c *Conn) refuseInput(err error) {
	var e *mqtt.Error
	if !errors.As(err, &e) {
		label := "network"
		if isTimeout(err) {
			label = "timeout"
		}
		c.srv.rejected(c, label, err.Error())
		c.close(cause{kind: closeNetwork, msg: err.Error()})
		return
	}
	c.setVersion(c.rd.Version())
	c.maxPacket = c.rd.PeerMaxPacketSize()
	c.problemInfo = true
	c.reject(e.Code, err)
}

// reject answers CONNECT with a failure, where the version has one, and closes.
func (c *Conn) reject(code mqtt.ReasonCode, err error) {
	msg := publicReason(err)
	c.srv.rejected(c, rejectLabel(err), err.Error())
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause.kind != 0 {
		return
	}
	if !c.greeted {
		c.appendRefusalLocked(code, msg, referenceOf(err))
	}
	c.closeLocked(cause{kind: closeRejected, msg: msg})
}

// appendRefusalLocked adds a CONNACK that refuses, if the version has the code and
// the client the room for it.
func (c *Conn) appendRefusalLocked(code mqtt.ReasonCode, msg, server string) {
	ack := &mqtt.Connack{Code: code}
	if c.version == mqtt.V5 {
		ack.ReasonString, ack.ServerReference = msg, server
	} else if _, ok := code.ReturnCode(); !ok || c.version == 0 {
		return
	}
	if !c.fits(ack) { // v5:MQTT-3.2.2-19
		ack.ReasonString = ""
	}
	if !c.fits(ack) {
		ack.ServerReference = ""
	}
	if c.fits(ack) {
		c.appendLocked(ack)
		c.linger = true
	}
}

// refusePendingLocked answers a CONNECT that is under way when the node gives up.
func (c *Conn) refusePendingLocked(why cause) {
	code := mqtt.ServerUnavailable
	switch why.kind {
	case closeBackend, closeShutdown: // CONNACK has no code for the latter
	case closeDrain:
		if why.server != "" {
			code = mqtt.UseAnotherServer
		}
	default:
		return
	}
	// A CONNACK that is held back is not sent: the session is lost again.
	c.out.discard()
	c.held, c.greeted = false, true
	c.appendRefusalLocked(code, why.msg, why.server)
}

// rejectLabel is the reason label of connect_rejected_total.
func rejectLabel(err error) string {
	var e *mqtt.Error
	if errors.As(err, &e) {
		return "malformed"
	}
	switch connectCode(err) {
	case mqtt.ClientIdentifierNotValid:
		return "client_id"
	case mqtt.BadUserNameOrPassword, mqtt.NotAuthorized, mqtt.BadAuthenticationMethod, mqtt.Banned:
		return "auth"
	case mqtt.QuotaExceeded:
		return "limit"
	case mqtt.ServerUnavailable, mqtt.ServerShuttingDown, mqtt.ServerBusy, mqtt.UseAnotherServer:
		return "unavailable"
	}
	return "refused"
}

// rejected counts and logs a handshake without a session.
func (s *Server) rejected(c *Conn, label, msg string) {
	s.m.rejected.WithLabelValues(label).Inc()
	fields := []zap.Field{zap.String("reason", label), zap.String("err", msg), zap.String("listener", c.meta.Listener)}
	if c.meta.Peer != nil {
		fields = append(fields, zap.Stringer("peer", c.meta.Peer))
	}
	if c.ident.ClientID != "" {
		fields = append(fields, zap.String("client", c.ident.ClientID))
	}
	s.ev.log(zap.InfoLevel, evRejected, "handshake refused", fields...)
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

func randomToken() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:])
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
