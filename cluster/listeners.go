package cluster

import (
	"errors"
	"fmt"
	"net"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/transport"
)

// openClientPorts binds all client ports. The first two places of n.clients
// belong to MQTTAddr and MQTTSAddr, nil where they are off.
func (n *Node) openClientPorts() error {
	base := transport.ClientConfig{
		Network: n.cfg.Network, HandshakeTimeout: n.cfg.Session.ConnectTimeout, Admission: n.admission(),
		Logger: n.lg, Registerer: n.cfg.Registerer,
	}
	plain := base
	plain.Addr, plain.Name, plain.WebSocketPath, plain.Origins = n.cfg.MQTTAddr, "mqtt", n.cfg.WebSocketPath, n.cfg.WebSocketOrigins
	secure := plain
	secure.Addr, secure.Name, secure.TLS, secure.TLSFiles = n.cfg.MQTTSAddr, "mqtts", n.cfg.MQTTTLS, n.cfg.MQTTTLSFiles
	if err := n.openClientPort(plain, "mqtt-addr"); err != nil {
		return err
	}
	if err := n.openClientPort(secure, "mqtts-addr"); err != nil {
		return err
	}
	for _, l := range n.cfg.Listeners {
		l.Network, l.HandshakeTimeout, l.Admission, l.Logger, l.Registerer = base.Network, base.HandshakeTimeout, base.Admission, base.Logger, base.Registerer
		if err := n.openClientPort(l, "listener "+l.Name); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) openClientPort(cfg transport.ClientConfig, key string) error {
	way := &doorway{Network: cfg.Network, name: cfg.Name}
	n.doorways, cfg.Network = append(n.doorways, way), way
	if cfg.Addr == "" || cfg.Addr == "none" || !hasRole(n.cfg.Roles, RoleGateway) {
		n.clients = append(n.clients, nil)
		return nil
	}
	port, err := transport.OpenClientPort(cfg)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrConfig, key, err)
	}
	way.port.Store(port)
	n.clients = append(n.clients, port)
	return nil
}

// admission bounds the connections of all client ports together. Its bound is
// a little above that of the session server, which can still say why it refuses.
func (n *Node) admission() *transport.Admission {
	most := n.cfg.Session.MaxConnections
	if most > 0 {
		most += most/50 + 16
	}
	return transport.NewAdmission(transport.AdmissionConfig{
		MaxConnections: most, PendingMax: n.cfg.Session.PendingConnects, ConnectRate: n.cfg.ConnectRate,
	})
}

// acceptAll lets clients in at every port.
func (n *Node) acceptAll() {
	for i, port := range n.clients {
		if port != nil {
			n.spawn(func() { n.acceptClients(port, n.doorways[i]) })
		}
	}
}

func (n *Node) acceptClients(port *transport.ClientPort, way *doorway) {
	for {
		conn, err := port.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) && n.ctx.Err() == nil {
				n.lg.Error("listener is down", zap.String("event", "listener.down"), zap.Stringer("addr", port.Addr()), zap.Error(err))
			}
			return
		}
		if way.paused.Load() { // since it came through the door
			_ = conn.Close()
			continue
		}
		n.server.Serve(conn, session.Meta{
			Listener: conn.Listener(), Transport: conn.Transport(), Peer: conn.RemoteAddr(),
			CommonName: conn.CommonName(), AcceptedAt: conn.AcceptedAt(),
		})
	}
}

// ReloadTLS reads the certificates of all ports again. Connections that
// exist go on; on an error the old certificate stays.
func (n *Node) ReloadTLS() error {
	var errs []error
	if n.port != nil {
		errs = append(errs, n.port.ReloadTLS())
	}
	for _, port := range n.clients {
		if port != nil {
			errs = append(errs, port.ReloadTLS())
		}
	}
	return errors.Join(errs...)
}
