package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

// Access says who may use the API. The zero value lets callers on loopback do
// everything as long as no API key exists, and nobody else anything.
type Access struct {
	// APIKeys and Certificates are the ways to say who one is that the
	// configuration names. With any of them nobody is let in without.
	APIKeys, Certificates bool
	// AllowAnonymous lets callers beyond loopback in, too, as long as no way is
	// configured and no key exists.
	AllowAnonymous bool
	// OpenMetrics leaves /metrics open to everybody.
	OpenMetrics bool
	// Bootstrap is the SHA-256 of a key that is an administrator's on this node
	// alone; nil, or what it returns, for none.
	Bootstrap func() []byte
}

// KeyStore finds API keys in what this node knows, without asking anybody.
type KeyStore interface {
	// APIKey finds a key by its id.
	APIKey(id string) (KeyRecord, bool)
	// APIKeysInUse says that there is a key, or that this node cannot rule it out.
	APIKeysInUse() bool
}

// KeyRecord is an API key as the gate needs it.
type KeyRecord struct {
	ID, Name string
	Hash     []byte // SHA-256 of the key
	Role     Role
	// Scopes, if there are any, are all that the key is good for.
	Scopes []string
	// ExpiresAt is zero for never.
	ExpiresAt time.Time
}

// caller is who asks.
type caller struct {
	// Actor is "key:NAME", "cert:NAME", "bootstrap" or "anonymous".
	Actor   string
	Role    Role
	Address string
	// KeyID is that of the API key, if there is one.
	KeyID string
}

func (c *caller) anonymous() bool { return c.Actor == actorAnonymous }

const (
	actorAnonymous = "anonymous"
	actorBootstrap = "bootstrap"
)

// Results of an authentication, in the log and in metrics.
const (
	authOK      = "ok"
	authFailed  = "failed"
	authMissing = "missing"
	authLimited = "limited"
	authDenied  = "denied"
)

type callerKey struct{}

// callerOf is who asks; the zero caller outside of the gate.
func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c
}

// gate decides who is let in.
type gate struct {
	access   Access
	keys     KeyStore
	lg       *zap.Logger
	metrics  *metrics
	failures *failures
	now      func() time.Time

	used sync.Map // id of a key to the time of its last use here, in unix ms
}

// configured says that nobody is let in without saying who he is.
func (g *gate) configured() bool {
	return g.access.APIKeys || g.access.Certificates || g.bootstrap() != nil || g.keys.APIKeysInUse()
}

func (g *gate) bootstrap() []byte {
	if g.access.Bootstrap == nil {
		return nil
	}
	return g.access.Bootstrap()
}

// authenticate finds out who asks. A problem does not tell what was wrong; the
// log does.
func (g *gate) authenticate(r *http.Request) (caller, *problem) {
	addr := addressOf(r)
	if header := r.Header.Get("Authorization"); header != "" {
		c, why := g.byKey(header)
		if why != "" {
			return c, g.failed("api_key", addr, why)
		}
		c.Address = addr
		g.metrics.auth.WithLabelValues("api_key", authOK).Inc()
		return c, nil
	}
	if g.access.Certificates && r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		c, why := g.byCertificate(r.TLS.PeerCertificates[0])
		if why != "" {
			return c, g.failed("mtls", addr, why)
		}
		c.Address = addr
		g.metrics.auth.WithLabelValues("mtls", authOK).Inc()
		return c, nil
	}
	if !g.configured() && (onLoopback(r) || g.access.AllowAnonymous) {
		return caller{Actor: actorAnonymous, Role: RoleAdmin, Address: addr}, nil
	}
	g.metrics.auth.WithLabelValues("none", authMissing).Inc()
	return caller{Address: addr}, unauthenticated()
}

// failed counts an attempt with something that is not right, and says no.
func (g *gate) failed(backend, addr, why string) *problem {
	if wait := g.failures.add(addr); wait > 0 {
		g.metrics.auth.WithLabelValues(backend, authLimited).Inc()
		p := newProblem(http.StatusTooManyRequests, client.CodeLimitExceeded, "too many failed attempts from this address")
		p.RetryAfterMS = wait.Milliseconds()
		return p
	}
	g.metrics.auth.WithLabelValues(backend, authFailed).Inc()
	g.lg.Warn("caller of the API is refused", eventField("auth.failed"), zap.String("peer", addr), zap.String("backend", backend), zap.String("reason", why))
	return unauthenticated()
}

func unauthenticated() *problem {
	p := newProblem(http.StatusUnauthorized, client.CodeUnauthenticated, "this needs a valid API key or client certificate")
	p.Hints = []string{"send the key as Authorization: Bearer KEY; the flotilla command takes it with --token-file FILE", "an administrator makes one with: flotilla apikey add NAME --role viewer"}
	return p
}

// byKey finds the caller behind a header. why is empty if the key is right.
func (g *gate) byKey(header string) (c caller, why string) {
	scheme, token, _ := strings.Cut(header, " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "bearer") || token == "" {
		return c, "it is no bearer key"
	}
	sum := sha256.Sum256([]byte(token))
	if want := g.bootstrap(); want != nil && subtle.ConstantTimeCompare(sum[:], want) == 1 {
		return caller{Actor: actorBootstrap, Role: RoleAdmin}, ""
	}
	if g.access.Certificates && !g.access.APIKeys {
		return c, "admin.auth does not take keys"
	}
	id := client.KeyID(token)
	rec, known := g.keys.APIKey(id)
	if !known {
		rec.Hash = make([]byte, sha256.Size) // nothing has this hash: the same work for nothing
	}
	right := subtle.ConstantTimeCompare(sum[:], rec.Hash) == 1
	switch {
	case !known:
		return c, "the key is unknown"
	case !right:
		return c, "the key is wrong"
	case !rec.ExpiresAt.IsZero() && !g.now().Before(rec.ExpiresAt):
		return c, "the key has expired"
	}
	role := rec.Role
	if len(rec.Scopes) > 0 {
		role = RoleNone
		if slices.Contains(rec.Scopes, client.ScopeMetrics) {
			role = RoleMetrics
		}
	}
	g.used.Store(rec.ID, g.now().UnixMilli())
	return caller{Actor: "key:" + rec.Name, Role: role, KeyID: rec.ID}, ""
}

// organizationalUnit begins the unit of a certificate that names a role:
// flotilla-viewer, flotilla-operator, flotilla-admin, flotilla-metrics.
const organizationalUnit = "flotilla-"

// byCertificate finds the caller behind a certificate, whose chain was verified.
func (g *gate) byCertificate(cert *x509.Certificate) (c caller, why string) {
	if now := g.now(); now.After(cert.NotAfter) || now.Before(cert.NotBefore) {
		return c, "the certificate is not valid at this time" // of a connection that is older than that
	}
	role, named := RoleNone, 0
	for _, unit := range cert.Subject.OrganizationalUnit {
		name, ours := strings.CutPrefix(unit, organizationalUnit)
		if !ours {
			continue
		}
		named++
		if r, ok := ParseRole(name); ok {
			role = r
		} else if name == RoleMetrics.String() {
			role = RoleMetrics
		}
	}
	if named > 1 {
		return c, "the certificate names several roles"
	}
	return caller{Actor: "cert:" + cert.Subject.CommonName, Role: role}, ""
}

// lastUsed is when a key was last used on this node.
func (g *gate) lastUsed(id string) *time.Time {
	ms, ok := g.used.Load(id)
	if !ok {
		return nil
	}
	t := time.UnixMilli(ms.(int64)).UTC()
	return &t
}

// authorize says whether a caller may do what a route needs.
func (g *gate) authorize(c *caller, row accessRow, loopback bool) *problem {
	switch {
	case c.anonymous() && row.flags&keyed != 0 && !loopback:
		g.metrics.auth.WithLabelValues("none", authDenied).Inc()
		p := newProblem(http.StatusForbidden, client.CodeForbidden, "beyond loopback this needs an API key")
		p.Hints = []string{"call it on the node itself, or make the first key there: flotilla apikey add NAME --role admin"}
		return p
	case c.Role < row.role:
		g.metrics.auth.WithLabelValues(backendOf(c), authDenied).Inc()
		return newProblem(http.StatusForbidden, client.CodeForbidden, "this needs the role "+row.role.String()+", "+c.Actor+" has "+c.Role.String())
	}
	return nil
}

func backendOf(c *caller) string {
	switch {
	case strings.HasPrefix(c.Actor, "cert:"):
		return "mtls"
	case c.anonymous():
		return "none"
	default:
		return "api_key"
	}
}

// addressOf is the address of the caller, without its port.
func addressOf(r *http.Request) string {
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		return host
	}
	return r.RemoteAddr
}
