package transport

import (
	"crypto/tls"
	"fmt"
	"time"
)

// ClientAuth says whether clients show a certificate.
type ClientAuth byte

// The ways.
const (
	// ClientAuthNone does not ask for one. It is the default.
	ClientAuthNone ClientAuth = 0
	// ClientAuthRequest asks for one, and verifies it if there is one.
	ClientAuthRequest ClientAuth = 1
	// ClientAuthRequire lets nobody in without one.
	ClientAuthRequire ClientAuth = 2
)

// ParseClientAuth returns the way that is written "none", "request" or
// "require". Nothing written is none.
func ParseClientAuth(s string) (ClientAuth, error) {
	switch s {
	case "", "none":
		return ClientAuthNone, nil
	case "request":
		return ClientAuthRequest, nil
	case "require":
		return ClientAuthRequire, nil
	}
	return 0, fmt.Errorf("%w: client_auth %q; none, request or require", ErrConfig, s)
}

// The protocols that clients ask for in TLS (ALPN).
const (
	alpnMQTT = "mqtt"
	alpnAWS  = "x-amzn-mqtt-ca"
	alpnHTTP = "http/1.1" // of WebSocket clients
)

// TLSFiles is the TLS of a client port, from files in PEM form. They are read
// again when they change: new connections get the new certificate, connections
// that exist go on. While a new set of files is broken, the old one stays.
type TLSFiles struct {
	// Cert and Key are the certificate, with its intermediates, and its key.
	Cert, Key string
	// ClientCA signs the certificates of clients. It goes with ClientAuth other
	// than ClientAuthNone.
	ClientCA string
	// ClientAuth says whether clients show a certificate.
	ClientAuth ClientAuth
	// MinVersion is tls.VersionTLS12 (the default) or tls.VersionTLS13.
	MinVersion uint16
	// ALPN are the protocols to agree on with clients that ask. Default "mqtt"
	// and "x-amzn-mqtt-ca"; "http/1.1" is always added, for WebSocket. A client
	// that asks for others only is refused.
	ALPN []string
	// Interval is how often the files are looked at. Default 10 s.
	Interval time.Duration
}

func (f *TLSFiles) prepare() error {
	switch {
	case f.Cert == "" || f.Key == "":
		return fmt.Errorf("%w: TLS needs a certificate and its key", ErrConfig)
	case f.ClientAuth > ClientAuthRequire:
		return fmt.Errorf("%w: client auth %d", ErrConfig, f.ClientAuth)
	case f.ClientAuth != ClientAuthNone && f.ClientCA == "":
		return fmt.Errorf("%w: client certificates need a client CA", ErrConfig)
	case f.ClientAuth == ClientAuthNone && f.ClientCA != "": // who names a CA expects it to be asked
		return fmt.Errorf("%w: a client CA, but clients are not asked for certificates", ErrConfig)
	case f.MinVersion != 0 && f.MinVersion != tls.VersionTLS12 && f.MinVersion != tls.VersionTLS13:
		return fmt.Errorf("%w: least TLS version %#x; 1.2 or 1.3", ErrConfig, f.MinVersion)
	}
	f.MinVersion = max(f.MinVersion, tls.VersionTLS12)
	if len(f.ALPN) == 0 {
		f.ALPN = []string{alpnMQTT, alpnAWS}
	}
	f.Interval = orDefault(f.Interval, lookEvery)
	return nil
}
