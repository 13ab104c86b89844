package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flotilla-mqtt/flotilla/session"
)

// The example of RFC 7677, section 3.
const (
	rfcLine = "user:SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$" +
		"WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
	rfcFirst  = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
	rfcNonce  = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	rfcServer = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
	rfcFinal  = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
	rfcProof  = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, text string) *File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users.conf")
	write(t, path, text)
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func password(f session.Authenticator, name, pw string) error {
	_, err := f.Authenticate(context.Background(), &session.Credentials{
		Username: name, HasUsername: true, Password: []byte(pw), HasPassword: true})
	return err
}

func TestPassword(t *testing.T) {
	line, err := Line("zoë", []byte("s3cret"), 0)
	if err != nil {
		t.Fatal(err)
	}
	f := open(t, "# people\n\n"+rfcLine+"\r\n"+line+"\n")
	if f.Len() != 2 {
		t.Fatalf("%d users, want 2", f.Len())
	}
	for _, c := range []struct {
		name, pw string
		want     error
	}{
		{"user", "pencil", nil},
		{"zoë", "s3cret", nil},
		{"user", "pencil ", session.ErrBadCredentials},
		{"user", "", session.ErrBadCredentials},
		{"zoë", "pencil", session.ErrBadCredentials},
		{"nobody", "pencil", session.ErrBadCredentials},
		{"", "", session.ErrBadCredentials},
	} {
		if err := password(f, c.name, c.pw); !errors.Is(err, c.want) {
			t.Errorf("%q with %q: %v, want %v", c.name, c.pw, err, c.want)
		}
	}
	if _, err := f.Authenticate(context.Background(), &session.Credentials{}); !errors.Is(err, session.ErrNotAuthorized) {
		t.Errorf("without a user name: %v", err)
	}
	p, err := f.Authenticate(context.Background(), &session.Credentials{Username: "user", HasUsername: true})
	if !errors.Is(err, session.ErrBadCredentials) || p != (session.Principal{}) {
		t.Errorf("without a password: %v, %v", p, err)
	}
}

// An unknown name has the cost of a known one, and a salt that stays.
func TestUnknownNameLooksLikeAnother(t *testing.T) {
	f := open(t, rfcLine+"\n")
	u := f.users.Load()
	a, known := u.find("nobody")
	b, _ := u.find("nobody")
	c, _ := u.find("somebody")
	if known || a.iterations != 4096 || string(a.salt) != string(b.salt) || string(a.salt) == string(c.salt) || len(a.salt) != saltBytes {
		t.Errorf("unknown name: %+v, %+v, %+v", a, b, c)
	}
}

func TestFileFailsClosed(t *testing.T) {
	k := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for name, c := range map[string]struct{ text, want string }{
		"plain password":  {"# x\nuser:secret\n", "line 2: the verifier does not begin"},
		"no colon":        {"user\n", "line 1: it is not name:verifier"},
		"no name":         {":" + strings.TrimPrefix(rfcLine, "user:"), "line 1: user name is empty"},
		"wildcard":        {"us+r:" + strings.TrimPrefix(rfcLine, "user:"), `line 1: user name has the character '+'`},
		"space":           {" user:" + strings.TrimPrefix(rfcLine, "user:"), "begins or ends with a space"},
		"twice":           {rfcLine + "\n\n" + rfcLine, "line 3: the name stands"},
		"few iterations":  {"u:SCRAM-SHA-256$1:W22ZaJ0SNY7soEsUEjb6gQ==$" + k + ":" + k, "line 1: the iteration count"},
		"many iterations": {"u:SCRAM-SHA-256$99999999:W22ZaJ0SNY7soEsUEjb6gQ==$" + k + ":" + k, "line 1: the iteration count"},
		"short salt":      {"u:SCRAM-SHA-256$4096:W22Z$" + k + ":" + k, "line 1: the salt"},
		"no salt":         {"u:SCRAM-SHA-256$4096$" + k + ":" + k, "line 1: the verifier has no salt"},
		"no keys":         {"u:SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==", "line 1: the verifier has no keys"},
		"short key":       {"u:SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$AAAA:" + k, "line 1: the stored key"},
		"cut":             {rfcLine[:len(rfcLine)-4], "line 1: the server key"},
		"not UTF-8":       {"u\xff:" + strings.TrimPrefix(rfcLine, "user:"), "line 1: user name is not UTF-8"},
		"long line":       {"u:" + strings.Repeat("x", 100<<10), "line 1: "},
	} {
		path := filepath.Join(t.TempDir(), "users.conf")
		write(t, path, c.text)
		_, err := Open(path)
		if !errors.Is(err, ErrUsersFile) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error shows what stands in the file: %v", name, err)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, ErrUsersFile) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestReloadKeepsUsersOnError(t *testing.T) {
	f := open(t, rfcLine+"\n")
	write(t, f.path, "user:oops\n")
	if err := f.Reload(); !errors.Is(err, ErrUsersFile) {
		t.Fatalf("reload of a bad file: %v", err)
	}
	if err := password(f, "user", "pencil"); err != nil {
		t.Errorf("after a reload that failed: %v", err)
	}
	write(t, f.path, "# nobody\n")
	if err := f.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := password(f, "user", "pencil"); !errors.Is(err, session.ErrBadCredentials) {
		t.Errorf("after the user was removed: %v", err)
	}
}

func TestLineRefuses(t *testing.T) {
	for _, name := range []string{"", "a:b", "a#", "+", "a\x00", "a\n", " a", strings.Repeat("a", 257)} {
		if _, err := Line(name, []byte("x"), 0); !errors.Is(err, ErrName) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	if _, err := Line("a", []byte("x"), 100); !errors.Is(err, ErrIterations) {
		t.Errorf("100 iterations: %v", err)
	}
}

func begin(t *testing.T, f session.EnhancedAuth) *scram {
	t.Helper()
	ex, err := f.Begin(context.Background(), Method, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := ex.(*scram)
	s.nonce = func() string { return rfcNonce }
	return s
}

func TestScram_RFC7677(t *testing.T) {
	s := begin(t, open(t, rfcLine+"\n"))
	if reply, done, _, err := s.Step(context.Background(), nil); reply != nil || done || err != nil {
		t.Fatalf("no data: %q, %v, %v", reply, done, err)
	}
	reply, done, _, err := s.Step(context.Background(), []byte(rfcFirst))
	if string(reply) != rfcServer || done || err != nil {
		t.Fatalf("first: %q, %v, %v", reply, done, err)
	}
	reply, done, p, err := s.Step(context.Background(), []byte(rfcFinal))
	if string(reply) != rfcProof || !done || err != nil || p.Username != "user" {
		t.Fatalf("final: %q, %v, %v, %v", reply, done, p, err)
	}
	if _, done, _, err := s.Step(context.Background(), []byte(rfcFinal)); done || !errors.Is(err, session.ErrNotAuthorized) {
		t.Errorf("a step after the end: %v, %v", done, err)
	}
}

func TestScramRefuses(t *testing.T) {
	f := open(t, rfcLine+"\n")
	for name, c := range map[string]struct{ first, final string }{
		"channel binding":     {"p=tls-unique,,n=user,r=rOprNGfwEbeRWgbNEkqO", ""},
		"no header":           {"n=user,r=abc", ""},
		"no nonce":            {"n,,n=user", ""},
		"empty nonce":         {"n,,n=user,r=", ""},
		"nonce with a blank":  {"n,,n=user,r=a b", ""},
		"mandatory extension": {"n,,m=x,n=user,r=abc", ""},
		"mandatory at end":    {"n,,n=user,r=abc,m=1", ""},
		"other identity":      {"n,a=admin,n=user,r=abc", ""},
		"bad escape":          {"n,,n=us=er,r=abc", ""},
		"binding changed":     {rfcFirst, strings.Replace(rfcFinal, "c=biws", "c=eSws", 1)},
		"nonce changed":       {rfcFirst, strings.Replace(rfcFinal, "k0,p=", "k1,p=", 1)},
		"proof changed":       {rfcFirst, strings.Replace(rfcFinal, "p=d", "p=e", 1)},
		"no proof":            {rfcFirst, "c=biws,r=rOprNGfwEbeRWgbNEkqO" + rfcNonce},
		"short proof":         {rfcFirst, "c=biws,r=rOprNGfwEbeRWgbNEkqO" + rfcNonce + ",p=AAAA"},
		"unknown user":        {strings.Replace(rfcFirst, "user", "nobody", 1), rfcFinal},
		"too long":            {"n,,n=user,r=" + strings.Repeat("a", maxScramBytes), ""},
	} {
		s := begin(t, f)
		_, done, _, err := s.Step(context.Background(), []byte(c.first))
		if c.final != "" {
			if err != nil {
				t.Errorf("%s: first: %v", name, err)
			}
			_, done, _, err = s.Step(context.Background(), []byte(c.final))
		}
		if done || !errors.Is(err, session.ErrNotAuthorized) {
			t.Errorf("%s: %v, %v, want a refusal", name, done, err)
		}
		if _, done, _, err := s.Step(context.Background(), []byte(rfcFirst)); done || err == nil {
			t.Errorf("%s: the exchange goes on after a refusal", name)
		}
	}
	if _, err := f.Begin(context.Background(), "SCRAM-SHA-1", nil); !errors.Is(err, session.ErrBadAuthMethod) {
		t.Errorf("another method: %v", err)
	}
}

func TestSaslName(t *testing.T) {
	for in, want := range map[string]string{"a=2Cb": "a,b", "=3D": "=", "a=2": "", "": "", "a=3d": ""} {
		if got, ok := saslName(in); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v, want %q", in, got, ok, want)
		}
	}
}

// broken is a backend that cannot answer.
type broken struct{ Backend }

func (broken) Authenticate(context.Context, *session.Credentials) (session.Principal, error) {
	return session.Principal{}, errors.New("no answer")
}

func TestChain(t *testing.T) {
	line, _ := Line("two", []byte("2"), 0)
	one, two := open(t, rfcLine+"\n"), open(t, line+"\n")
	ch := &Chain{Backends: []Backend{one, two}}
	if err := password(ch, "two", "2"); err != nil {
		t.Errorf("user of the second backend: %v", err)
	}
	if err := password(ch, "three", "3"); !errors.Is(err, session.ErrBadCredentials) {
		t.Errorf("unknown user: %v", err)
	}
	none := &session.Credentials{}
	if _, err := ch.Authenticate(context.Background(), none); !errors.Is(err, session.ErrNotAuthorized) {
		t.Errorf("anonymous: %v", err)
	}
	ch.AllowAnonymous = true
	if p, err := ch.Authenticate(context.Background(), none); err != nil || p.Username != "" {
		t.Errorf("anonymous, allowed: %v, %v", p, err)
	}
	if err := password(ch, "three", ""); !errors.Is(err, session.ErrBadCredentials) {
		t.Errorf("a claimed name passes as anonymous: %v", err)
	}
	ch.Backends = []Backend{broken{one}, two}
	if err := password(ch, "two", "2"); err == nil {
		t.Error("a backend that is broken lets the next one decide")
	}
	if _, err := ch.Begin(context.Background(), Method, none); err != nil {
		t.Errorf("begin: %v", err)
	}
	if _, err := (&Chain{}).Begin(context.Background(), Method, none); !errors.Is(err, session.ErrBadAuthMethod) {
		t.Errorf("begin without backends: %v", err)
	}
}

func FuzzScram(f *testing.F) {
	f.Add(rfcFirst, rfcFinal)
	f.Add("n,,n=a=2Cb,r=x,a=1", "c=biws,r=x,z=1,p=AAAA")
	u, err := parse(strings.NewReader(rfcLine))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, first, final string) {
		s := newScram(u.find)
		if _, done, _, err := s.Step(context.Background(), []byte(first)); done || err != nil {
			if done {
				t.Fatal("done after the first message")
			}
			return
		}
		if _, done, _, _ := s.Step(context.Background(), []byte(final)); done {
			t.Fatal("a proof for a nonce that was not known")
		}
	})
}

func FuzzUsersFile(f *testing.F) {
	f.Add(rfcLine + "\n# x\n")
	f.Fuzz(func(t *testing.T, text string) {
		u, err := parse(strings.NewReader(text))
		if err != nil {
			return
		}
		for name, v := range u.m {
			if _, _, err := parseLine(name + ":" + v.String()); err != nil {
				t.Fatalf("%q is accepted and cannot be written: %v", name, err)
			}
		}
	})
}
