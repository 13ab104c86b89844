package config

import (
	"fmt"
	"math"
	"net"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// None turns an address off.
const None Addr = "none"

// Addr is HOST:PORT, or none. The host may be empty (all addresses).
type Addr string

// UnmarshalText checks the form of an address.
func (a *Addr) UnmarshalText(b []byte) error {
	s := string(b)
	if s == "" || s == string(None) {
		*a = None
		return nil
	}
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT, for example 127.0.0.1:1883", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("port %q is not a number from 0 to 65535", port)
	} else if strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("port %q: write it as %d", port, n)
	}
	*a = Addr(s)
	return nil
}

func (a Addr) String() string { return string(a) }

// On says whether the address is one.
func (a Addr) On() bool { return a != None && a != "" }

// Loopback says whether only this machine can reach the address. A name other
// than localhost is not, since it can come to mean anything.
func (a Addr) Loopback() bool {
	host, _, err := net.SplitHostPort(string(a))
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// Wildcard says whether the address means all addresses of the machine.
func (a Addr) Wildcard() bool {
	host, _, err := net.SplitHostPort(string(a))
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "" || (ip != nil && ip.IsUnspecified())
}

// Secret is a string that is never printed.
type Secret string

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "(hidden)"
}

// Duration is a time with a unit: us ms s m h d, or 0.
type Duration time.Duration

// UnmarshalText parses 500us, 1.5s, 1h30m, 30d.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := ParseDuration(string(b))
	if err != nil {
		return err
	}
	*d = Duration(v)
	return nil
}

// ParseDuration is time.ParseDuration with days and without negative times.
func ParseDuration(s string) (time.Duration, error) {
	bad := fmt.Errorf("%q is not a time: write a number with us, ms, s, m, h or d, for example 10s", s)
	if s == "0" {
		return 0, nil
	}
	if s == "" || strings.ContainsAny(s, "+-nµ") {
		return 0, bad
	}
	rest, total := s, time.Duration(0)
	if i := strings.IndexByte(s, 'd'); i >= 0 {
		n, err := strconv.ParseFloat(s[:i], 64)
		if err != nil || !(n*float64(day) < math.MaxInt64) {
			return 0, bad
		}
		total, rest = time.Duration(n*float64(day)), s[i+1:]
		if rest == "" {
			return total, nil
		}
	}
	v, err := time.ParseDuration(rest)
	if err != nil || v > math.MaxInt64-total {
		return 0, bad
	}
	return total + v, nil
}

func (d Duration) String() string {
	v := time.Duration(d)
	switch {
	case v == 0:
		return "0"
	case v%day == 0:
		return strconv.FormatInt(int64(v/day), 10) + "d"
	case v < time.Millisecond && v%time.Microsecond == 0:
		return strconv.FormatInt(int64(v/time.Microsecond), 10) + "us"
	}
	s := v.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// Size is a number of bytes with a unit: KiB MiB GiB, or 0.
type Size int64

// UnmarshalText parses 512KiB, 1.5GiB.
func (z *Size) UnmarshalText(b []byte) error {
	v, err := ParseSize(string(b))
	if err != nil {
		return err
	}
	*z = Size(v)
	return nil
}

// ParseSize parses a size with its unit.
func ParseSize(s string) (int64, error) {
	bad := fmt.Errorf("%q is not a size: write a number with KiB, MiB or GiB, for example 1MiB", s)
	if s == "0" {
		return 0, nil
	}
	for _, u := range sizeUnits() {
		digits, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
		if err != nil || n < 0 || math.IsNaN(n) || n*float64(u.bytes) >= math.MaxInt64 {
			return 0, bad
		}
		return int64(n * float64(u.bytes)), nil
	}
	return 0, bad
}

type sizeUnit struct {
	name  string
	bytes int64
}

func sizeUnits() []sizeUnit { return []sizeUnit{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} }

func (z Size) String() string {
	for _, u := range sizeUnits() {
		if z >= Size(u.bytes) && z%Size(u.bytes) == 0 {
			return strconv.FormatInt(int64(z)/u.bytes, 10) + u.name
		}
	}
	if z == 0 {
		return "0"
	}
	return strconv.FormatFloat(float64(z)/1024, 'g', -1, 64) + "KiB"
}

// Rate is a number a second: 500/s, or 0.
type Rate int

// UnmarshalText parses 500/s.
func (r *Rate) UnmarshalText(b []byte) error {
	v, err := ParseRate(string(b))
	if err != nil {
		return err
	}
	*r = Rate(v)
	return nil
}

// ParseRate parses a rate with its unit.
func ParseRate(s string) (int, error) {
	if s == "0" {
		return 0, nil
	}
	digits, ok := strings.CutSuffix(s, "/s")
	n, err := strconv.ParseUint(digits, 10, 31)
	if !ok || err != nil {
		return 0, fmt.Errorf("%q is not a rate: write it as 500/s", s)
	}
	return int(n), nil
}

func (r Rate) String() string {
	if r == 0 {
		return "0"
	}
	return strconv.Itoa(int(r)) + "/s"
}

// ByteRate is a number of bytes a second: 1MiB/s, or 0.
type ByteRate int64

// UnmarshalText parses 512KiB/s.
func (r *ByteRate) UnmarshalText(b []byte) error {
	size, ok := strings.CutSuffix(string(b), "/s")
	v, err := ParseSize(size)
	if err != nil || !ok && v != 0 {
		return fmt.Errorf("%q is not a rate of bytes: write it as 1MiB/s", b)
	}
	*r = ByteRate(v)
	return nil
}

func (r ByteRate) String() string {
	if r == 0 {
		return "0"
	}
	return Size(r).String() + "/s"
}

// UnmarshalText parses true or false; a section is parsed by the file's reader.
func (t *ListenerTLS) UnmarshalText(b []byte) error {
	on, err := strconv.ParseBool(string(b))
	if err != nil {
		return fmt.Errorf("%q is neither true nor false nor a section", b)
	}
	*t = ListenerTLS{On: on}
	return nil
}

func (t *ListenerTLS) enable() { t.On = true }

func (t ListenerTLS) String() string { return strconv.FormatBool(t.On) }

// Count is a number, or auto (zero).
type Count int

// UnmarshalText parses a number or auto.
func (c *Count) UnmarshalText(b []byte) error {
	if string(b) == "auto" {
		*c = 0
		return nil
	}
	n, err := strconv.ParseUint(string(b), 10, 31)
	if err != nil || n == 0 {
		return fmt.Errorf("%q is not a number from 1, or auto", b)
	}
	*c = Count(n)
	return nil
}

func (c Count) String() string {
	if c == 0 {
		return "auto"
	}
	return strconv.Itoa(int(c))
}

// Watermark is a share of the memory limit, or a size.
type Watermark struct {
	Percent int
	Bytes   int64
}

// UnmarshalText parses 80% or 2GiB.
func (w *Watermark) UnmarshalText(b []byte) error {
	digits, ok := strings.CutSuffix(string(b), "%")
	if ok {
		n, err := strconv.Atoi(digits)
		if err != nil || n < 1 || n > 100 {
			return fmt.Errorf("%q is not a share from 1%% to 100%%", b)
		}
		*w = Watermark{Percent: n}
		return nil
	}
	v, err := ParseSize(string(b))
	if err != nil {
		return fmt.Errorf("%q is neither a share (80%%) nor a size (2GiB)", b)
	}
	*w = Watermark{Bytes: v}
	return nil
}

func (w Watermark) String() string {
	if w.Percent > 0 {
		return strconv.Itoa(w.Percent) + "%"
	}
	return Size(w.Bytes).String()
}
