package transport

import (
	"crypto/tls"
	"net"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// ServerTLS is the TLS of a port that speaks HTTP, from files that may change,
// as TLSFiles do for client ports.
type ServerTLS struct {
	certs *certificates
	done  chan struct{}
	ended chan struct{}
}

// OpenServerTLS reads the files for the first time and looks at them until
// Close. port is its name in metrics and logs.
func OpenServerTLS(files TLSFiles, port string, reg prometheus.Registerer, lg *zap.Logger) (*ServerTLS, error) {
	files.ALPN = []string{alpnHTTP}
	if err := files.prepare(); err != nil {
		return nil, err
	}
	if lg == nil {
		lg = zap.NewNop()
	}
	certs, err := openCertificates(&files, reg, port, lg)
	if err != nil {
		return nil, err
	}
	s := &ServerTLS{certs: certs, done: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		certs.watch(s.done)
	}()
	return s, nil
}

// Listener puts the connections of l inside TLS. Each gets the files as they
// are when it comes.
func (s *ServerTLS) Listener(l net.Listener) net.Listener {
	return tls.NewListener(l, &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.certs.current().server, nil },
	})
}

// Reload looks at the files now.
func (s *ServerTLS) Reload() error { return s.certs.reload() }

// Close stops looking at the files.
func (s *ServerTLS) Close() {
	close(s.done)
	<-s.ended
}
