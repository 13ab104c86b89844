package auth

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// Method is the authentication method of MQTT 5 that this package serves.
	Method = "SCRAM-SHA-256"
	// DefaultIterations is the count of RFC 7677 that Line uses for 0. It is
	// paid for each login, by the broker for passwords and by the client with SCRAM.
	DefaultIterations = 4096
	// minIterations and maxIterations bound what a file may ask for: below it a
	// stolen file is worthless as a secret, above it a login stops a processor.
	minIterations, maxIterations = 4096, 1_000_000
	// saltBytes is the length of a new salt; minSaltBytes and maxSaltBytes what a file may hold.
	saltBytes, minSaltBytes, maxSaltBytes = 16, 8, 64
	// maxNameBytes of a user name.
	maxNameBytes = 256
)

// verifier is what proves a password without holding it. RFC 5802, section 3
type verifier struct {
	iterations           int
	salt                 []byte
	storedKey, serverKey [sha256.Size]byte
}

// Line returns the line of a users file for a name and a password. iterations 0
// means DefaultIterations.
func Line(name string, password []byte, iterations int) (string, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	if iterations == 0 {
		iterations = DefaultIterations
	}
	if iterations < minIterations || iterations > maxIterations {
		return "", fmt.Errorf("%w %d: it must be %d to %d", ErrIterations, iterations, minIterations, maxIterations)
	}
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt) // never fails: it ends the process instead
	v, err := derive(password, salt, iterations)
	if err != nil {
		return "", fmt.Errorf("derive the verifier: %w", err)
	}
	return name + ":" + v.String(), nil
}

// checkName refuses names that no file can hold, or that would be wildcards or
// more than one level in rules that are made of names.
func checkName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w is empty", ErrName)
	case len(name) > maxNameBytes:
		return fmt.Errorf("%w has %d bytes: at most %d are allowed", ErrName, len(name), maxNameBytes)
	case !utf8.ValidString(name):
		return fmt.Errorf("%w is not UTF-8", ErrName)
	}
	for _, r := range name {
		if r < 0x20 || r >= 0x7F && r < 0xA0 || strings.ContainsRune(":+#", r) {
			return fmt.Errorf("%w has the character %q, which is not allowed", ErrName, r)
		}
	}
	if strings.TrimSpace(name) != name {
		return fmt.Errorf("%w begins or ends with a space", ErrName)
	}
	return nil
}

// derive computes the verifier of a password.
func derive(password, salt []byte, iterations int) (*verifier, error) {
	salted, err := pbkdf2.Key(sha256.New, string(password), salt, iterations, sha256.Size)
	if err != nil {
		return nil, err
	}
	v := &verifier{iterations: iterations, salt: salt}
	v.storedKey = sha256.Sum256(sum(salted, []byte("Client Key")))
	copy(v.serverKey[:], sum(salted, []byte("Server Key")))
	return v, nil
}

func sum(key, data []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(data)
	return h.Sum(nil)
}

// String is the verifier as a file holds it.
func (v *verifier) String() string {
	b := base64.StdEncoding.EncodeToString
	return Method + "$" + strconv.Itoa(v.iterations) + ":" + b(v.salt) + "$" + b(v.storedKey[:]) + ":" + b(v.serverKey[:])
}

// fits reports whether v is that of the password. Its time does not depend on
// what is wrong.
func (v *verifier) fits(password []byte) bool {
	d, err := derive(password, v.salt, v.iterations)
	return err == nil && subtle.ConstantTimeCompare(d.storedKey[:], v.storedKey[:]) == 1
}

// parseVerifier is the inverse of String.
func parseVerifier(s string) (*verifier, error) {
	rest, ok := strings.CutPrefix(s, Method+"$")
	if !ok {
		return nil, fmt.Errorf("the verifier does not begin with %s$", Method)
	}
	params, keys, ok := strings.Cut(rest, "$")
	if !ok {
		return nil, fmt.Errorf("the verifier has no keys")
	}
	count, salt, ok := strings.Cut(params, ":")
	if !ok {
		return nil, fmt.Errorf("the verifier has no salt")
	}
	stored, server, ok := strings.Cut(keys, ":")
	if !ok {
		return nil, fmt.Errorf("the verifier has no server key")
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < minIterations || n > maxIterations {
		return nil, fmt.Errorf("the iteration count is not a number of %d to %d", minIterations, maxIterations)
	}
	v := &verifier{iterations: n}
	if v.salt, err = base64.StdEncoding.Strict().DecodeString(salt); err != nil || len(v.salt) < minSaltBytes || len(v.salt) > maxSaltBytes {
		return nil, fmt.Errorf("the salt is not base64 of %d to %d bytes", minSaltBytes, maxSaltBytes)
	}
	if err := decodeKey(&v.storedKey, stored); err != nil {
		return nil, fmt.Errorf("the stored key %w", err)
	}
	if err := decodeKey(&v.serverKey, server); err != nil {
		return nil, fmt.Errorf("the server key %w", err)
	}
	return v, nil
}

func decodeKey(dst *[sha256.Size]byte, s string) error {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != sha256.Size {
		return fmt.Errorf("is not base64 of %d bytes", sha256.Size)
	}
	copy(dst[:], b)
	return nil
}
