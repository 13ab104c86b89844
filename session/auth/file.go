package auth

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync/atomic"

	"github.com/flotilla-mqtt/flotilla/session"
)

// maxFileBytes bounds a users file.
const maxFileBytes = 64 << 20

// users is one reading of a file.
type users struct {
	m map[string]*verifier
	// secret makes the salts that unknown names are answered with. It follows
	// from the file, so that they are the same on all nodes and after a restart.
	secret     []byte
	iterations int // that most users have
}

// File is a users file. All methods are safe for concurrent use.
type File struct {
	path  string
	users atomic.Pointer[users]
	// slots bound the computations under way: a flood of logins must not take
	// every processor from the clients that are connected.
	slots chan struct{}
}

var (
	_ session.Authenticator = (*File)(nil)
	_ session.EnhancedAuth  = (*File)(nil)
)

// Open reads a users file. Errors wrap ErrUsersFile.
func Open(path string) (*File, error) {
	f := &File{path: path, slots: make(chan struct{}, runtime.GOMAXPROCS(0))}
	if err := f.Reload(); err != nil {
		return nil, err
	}
	return f, nil
}

// Reload reads the file again. On an error the users stay as they were. Who is
// connected stays connected.
func (f *File) Reload() error {
	r, err := os.Open(f.path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUsersFile, err)
	}
	defer func() { _ = r.Close() }()
	u, err := parse(r)
	if err != nil {
		return fmt.Errorf("%w %s: %w", ErrUsersFile, f.path, err)
	}
	f.users.Store(u)
	return nil
}

// Len returns the number of users.
func (f *File) Len() int { return len(f.users.Load().m) }

// parse reads a whole file. Its errors name the line, and nothing that stands
// in it: it may be a password in the wrong place.
func parse(r io.Reader) (*users, error) {
	digest := sha256.New()
	lr := &io.LimitedReader{R: r, N: maxFileBytes + 1}
	sc := bufio.NewScanner(io.TeeReader(lr, digest))
	u := &users{m: make(map[string]*verifier), iterations: DefaultIterations}
	counts := make(map[int]int)
	n := 0
	for sc.Scan() {
		n++
		line := bytes.TrimSuffix(sc.Bytes(), []byte("\r"))
		if len(bytes.TrimSpace(line)) == 0 || line[0] == '#' {
			continue
		}
		name, v, err := parseLine(string(line))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if u.m[name] != nil {
			return nil, fmt.Errorf("line %d: the name stands in an earlier line, too", n)
		}
		u.m[name] = v
		counts[v.iterations]++
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", n+1, err)
	}
	if lr.N == 0 {
		return nil, fmt.Errorf("it has more than %d bytes", maxFileBytes)
	}
	for it, k := range counts {
		if best := counts[u.iterations]; k > best || k == best && it > u.iterations {
			u.iterations = it
		}
	}
	u.secret = digest.Sum(nil)
	return u, nil
}

func parseLine(line string) (string, *verifier, error) {
	name, rest, ok := strings.Cut(line, ":")
	if !ok {
		return "", nil, fmt.Errorf("it is not name:verifier")
	}
	if err := checkName(name); err != nil {
		return "", nil, err
	}
	v, err := parseVerifier(rest)
	if err != nil {
		return "", nil, err
	}
	return name, v, nil
}

// find returns the verifier of a name. That of an unknown one fits no password.
func (u *users) find(name string) (v *verifier, known bool) {
	if v := u.m[name]; v != nil {
		return v, true
	}
	seed := sum(u.secret, []byte(name))
	v = &verifier{iterations: u.iterations, salt: seed[:saltBytes]}
	copy(v.storedKey[:], sum(u.secret, seed))
	return v, false
}

// Authenticate implements session.Authenticator.
func (f *File) Authenticate(ctx context.Context, c *session.Credentials) (session.Principal, error) {
	if !c.HasUsername {
		return session.Principal{}, session.ErrNotAuthorized
	}
	v, known := f.users.Load().find(c.Username)
	select {
	case f.slots <- struct{}{}:
	case <-ctx.Done():
		return session.Principal{}, fmt.Errorf("wait for a processor: %w", ctx.Err())
	}
	ok := v.fits(c.Password)
	<-f.slots
	if !ok || !known || !c.HasPassword {
		return session.Principal{}, session.ErrBadCredentials
	}
	return session.Principal{Username: c.Username}, nil
}

// Begin implements session.EnhancedAuth.
func (f *File) Begin(_ context.Context, method string, _ *session.Credentials) (session.AuthExchange, error) {
	if method != Method {
		return nil, session.ErrBadAuthMethod
	}
	return newScram(f.users.Load().find), nil
}
