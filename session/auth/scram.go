package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/flotilla-mqtt/flotilla/session"
)

const (
	// nonceBytes of the server's half of the nonce.
	nonceBytes = 18
	// maxScramBytes of one message of a client.
	maxScramBytes = 4096
)

// scram is one exchange of SCRAM-SHA-256 without channel binding, from the
// server's side. RFC 5802, section 5
type scram struct {
	find  func(name string) (*verifier, bool)
	nonce func() string // the server's half
	step  scramStep
	asked bool

	v           *verifier
	known       bool
	name        string
	gs2         string // the header that the client has begun with
	clientFirst string // without the header
	serverFirst string
	full        string // both halves of the nonce
}

type scramStep byte

const (
	awaitFirst scramStep = iota + 1
	awaitFinal
	finished
)

func newScram(find func(string) (*verifier, bool)) *scram {
	return &scram{find: find, nonce: randomNonce, step: awaitFirst}
}

func randomNonce() string {
	var b [nonceBytes]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the process instead
	return base64.StdEncoding.EncodeToString(b[:])
}

// Step implements session.AuthExchange.
func (s *scram) Step(_ context.Context, data []byte) (reply []byte, done bool, p session.Principal, err error) {
	if len(data) > maxScramBytes {
		return nil, false, p, s.fail(fmt.Errorf("%w: %d bytes", errExchange, len(data)))
	}
	switch s.step {
	case awaitFirst:
		if len(data) == 0 && !s.asked {
			s.asked = true // CONNECT without data: the client is asked for its first message
			return nil, false, p, nil
		}
		reply, err = s.first(string(data))
	case awaitFinal:
		reply, err = s.final(string(data))
		done = err == nil
	default:
		err = fmt.Errorf("%w is over", errExchange)
	}
	if err != nil {
		return nil, false, p, s.fail(err)
	}
	if done {
		p.Username = s.name
	}
	return reply, done, p, nil
}

// fail ends the exchange. Who it is that asks learns nothing but the refusal.
func (s *scram) fail(err error) error {
	s.step = finished
	return fmt.Errorf("%w: %w", session.ErrNotAuthorized, err)
}

// first takes client-first-message and returns server-first-message.
func (s *scram) first(msg string) ([]byte, error) {
	flag, rest, ok := strings.Cut(msg, ",")
	authzid, bare, ok2 := strings.Cut(rest, ",")
	if !ok || !ok2 {
		return nil, fmt.Errorf("%w: the first message has no header", errExchange)
	}
	if flag != "n" && flag != "y" {
		return nil, fmt.Errorf("%w: channel binding is not served", errExchange)
	}
	user, rest, _ := strings.Cut(bare, ",")
	nonce, more, extended := strings.Cut(rest, ",")
	name, okName := attribute(user, 'n')
	clientNonce, okNonce := attribute(nonce, 'r')
	if !okName || !okNonce || !printable(clientNonce) || extended && !extensions(more) {
		return nil, fmt.Errorf("%w: the first message is not user and nonce", errExchange)
	}
	if s.name, ok = saslName(name); !ok {
		return nil, fmt.Errorf("%w: the user name is not one", errExchange)
	}
	if authzid != "" && authzid != "a="+name {
		return nil, fmt.Errorf("%w: acting for another user is not served", errExchange)
	}
	s.v, s.known = s.find(s.name)
	s.gs2 = flag + "," + authzid + ","
	s.clientFirst = bare
	s.full = clientNonce + s.nonce()
	s.serverFirst = "r=" + s.full + ",s=" + base64.StdEncoding.EncodeToString(s.v.salt) + ",i=" + strconv.Itoa(s.v.iterations)
	s.step = awaitFinal
	return []byte(s.serverFirst), nil
}

// final takes client-final-message and returns server-final-message.
func (s *scram) final(msg string) ([]byte, error) {
	i := strings.LastIndex(msg, ",p=")
	if i < 0 {
		return nil, fmt.Errorf("%w: the final message has no proof", errExchange)
	}
	without, encoded := msg[:i], msg[i+len(",p="):]
	binding, rest, _ := strings.Cut(without, ",")
	nonce, more, extended := strings.Cut(rest, ",")
	if binding != "c="+base64.StdEncoding.EncodeToString([]byte(s.gs2)) {
		return nil, fmt.Errorf("%w: the header has changed", errExchange)
	}
	if nonce != "r="+s.full || extended && !extensions(more) {
		return nil, fmt.Errorf("%w: the nonce has changed", errExchange)
	}
	proof, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || len(proof) != sha256.Size {
		return nil, fmt.Errorf("%w: the proof is not one", errExchange)
	}
	message := []byte(s.clientFirst + "," + s.serverFirst + "," + without)
	key := sum(s.v.storedKey[:], message)
	subtle.XORBytes(key, key, proof)
	hashed := sha256.Sum256(key)
	if subtle.ConstantTimeCompare(hashed[:], s.v.storedKey[:]) != 1 || !s.known {
		return nil, errProof
	}
	s.step = finished
	return []byte("v=" + base64.StdEncoding.EncodeToString(sum(s.v.serverKey[:], message))), nil
}

// attribute returns the value of "key=value", which is not empty.
func attribute(s string, key byte) (string, bool) {
	if len(s) < 3 || s[0] != key || s[1] != '=' {
		return "", false
	}
	return s[2:], true
}

// printable reports whether s may be a nonce. RFC 5802, section 7
func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= 0x20 || s[i] >= 0x7F || s[i] == ',' {
			return false
		}
	}
	return s != ""
}

// extensions reports whether what follows are optional extensions, which are
// ignored. The mandatory one, m, is not known. RFC 5802, section 5.1
func extensions(s string) bool {
	for e := range strings.SplitSeq(s, ",") {
		letter := len(e) > 2 && e[1] == '=' && (e[0]|0x20 >= 'a' && e[0]|0x20 <= 'z')
		if !letter || e[0] == 'm' {
			return false
		}
	}
	return true
}

// saslName undoes the escapes of a user name.
func saslName(s string) (string, bool) {
	var b strings.Builder
	for {
		plain, rest, escaped := strings.Cut(s, "=")
		b.WriteString(plain)
		if !escaped {
			return b.String(), b.Len() > 0
		}
		switch {
		case strings.HasPrefix(rest, "2C"):
			b.WriteByte(',')
		case strings.HasPrefix(rest, "3D"):
			b.WriteByte('=')
		default:
			return "", false
		}
		s = rest[2:]
	}
}
