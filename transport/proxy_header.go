package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

const (
	// proxySign1 and proxySign2 begin a header of version 1 and 2.
	proxySign1 = "PROXY "
	proxySign2 = "\r\n\r\n\x00\r\nQUIT\n"
	// proxyLine bounds a header of version 1, its line end included.
	proxyLine = 107
	// proxyFixed is the fixed part of a header of version 2.
	proxyFixed = 16
	// proxyBody bounds what follows it: addresses, and what the proxy tells
	// besides (TLVs, with the certificate of the client at most).
	proxyBody = 8 << 10
	// proxyShort are the bytes that headers of both versions have at least.
	proxyShort = 12
)

// The commands and address families of version 2.
const (
	proxyLocal  = 0x20
	proxyProxy  = 0x21
	proxyUnspec = 0x00
	proxyTCP4   = 0x11
	proxyTCP6   = 0x21
	proxyUnix   = 0x31
	proxyCRC32C = 0x03 // the type of a TLV
)

// readProxy reads the header that a connection of a trusted proxy begins with.
func (p *ClientPort) readProxy(t *tracked) error {
	if p.cfg.Proxy == ProxyOff || !trusted(p.cfg.TrustedProxies, t.raw.RemoteAddr()) {
		return nil
	}
	client, err := readProxyHeader(t, p.cfg.Proxy)
	if err != nil {
		return &rejection{reasonProxyHeader, err}
	}
	if client.IsValid() {
		t.proxied = net.TCPAddrFromAddrPort(client)
	}
	return nil
}

// readProxyHeader reads a header and not a byte more. The address is invalid
// where the header names none: then the proxy speaks for itself.
func readProxyHeader(r io.Reader, mode ProxyMode) (netip.AddrPort, error) {
	var buf [proxyLine]byte
	sign, err := readProxySign(r, buf[:proxyShort], mode)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if sign == proxySign2 {
		return readProxy2(r, buf[:proxyFixed])
	}
	return readProxy1(r, buf[:])
}

// readProxySign fills b, and gives up at the first byte that is wrong.
func readProxySign(r io.Reader, b []byte, mode ProxyMode) (sign string, err error) {
	for n := 0; n < len(b); {
		k, err := r.Read(b[n:])
		n += k
		is1 := mode != ProxyV2 && beginsAlike(b[:n], proxySign1)
		is2 := mode != ProxyV1 && beginsAlike(b[:n], proxySign2)
		switch {
		case n > 0 && !is1 && !is2:
			return "", fmt.Errorf("%w: none of version %s", errProxyHeader, mode)
		case n == len(b) && is1:
			return proxySign1, nil
		case n == len(b):
			return proxySign2, nil
		case err != nil:
			return "", fmt.Errorf("%w: %w", errProxyHeader, err)
		}
	}
	return "", errProxyHeader
}

// beginsAlike tells whether b and sign agree as far as both go.
func beginsAlike(b []byte, sign string) bool {
	n := min(len(b), len(sign))
	return string(b[:n]) == sign[:n]
}

// readProxy1 reads the rest of the line byte by byte: what follows it belongs
// to the client. line begins with proxyShort bytes.
func readProxy1(r io.Reader, line []byte) (netip.AddrPort, error) {
	n := proxyShort
	if i := bytes.IndexByte(line[:n], '\n'); i >= 0 && i < n-1 {
		return netip.AddrPort{}, fmt.Errorf("%w: line is too short", errProxyHeader)
	}
	for line[n-1] != '\n' {
		if n == len(line) {
			return netip.AddrPort{}, fmt.Errorf("%w: more than %d bytes", errProxyHeader, proxyLine)
		}
		if _, err := io.ReadFull(r, line[n:n+1]); err != nil {
			return netip.AddrPort{}, fmt.Errorf("%w: %w", errProxyHeader, err)
		}
		n++
	}
	text, ok := strings.CutSuffix(string(line[:n]), "\r\n")
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("%w: line does not end with CR LF", errProxyHeader)
	}
	addr, err := parseProxy1(strings.TrimPrefix(text, proxySign1))
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%w: %w", errProxyHeader, err)
	}
	return addr, nil
}

// parseProxy1 takes apart what stands between the signature and the line end:
// family, both addresses, both ports, one space between two fields.
func parseProxy1(s string) (netip.AddrPort, error) {
	if s == "UNKNOWN" || strings.HasPrefix(s, "UNKNOWN ") {
		return netip.AddrPort{}, nil // whatever follows is to be ignored
	}
	f := strings.Split(s, " ")
	if len(f) != 5 || f[0] != "TCP4" && f[0] != "TCP6" {
		return netip.AddrPort{}, errors.New("not TCP4 or TCP6, two addresses and two ports")
	}
	var ends [2]netip.AddrPort
	for i := range ends {
		addr, err := netip.ParseAddr(f[1+i])
		if err != nil || addr.Zone() != "" || addr.Is4() != (f[0] == "TCP4") {
			return netip.AddrPort{}, fmt.Errorf("address %d is not one of %s", i+1, f[0])
		}
		port, err := parseProxyPort(f[3+i])
		if err != nil {
			return netip.AddrPort{}, err
		}
		ends[i] = netip.AddrPortFrom(addr.Unmap(), port)
	}
	return ends[0], nil
}

// parseProxyPort takes a number without sign and leading zeros.
func parseProxyPort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || len(s) > 1 && s[0] == '0' {
		return 0, errors.New("port is not a number up to 65535")
	}
	return uint16(n), nil
}

// readProxy2 reads the rest of a binary header. fixed begins with proxyShort
// bytes.
func readProxy2(r io.Reader, fixed []byte) (netip.AddrPort, error) {
	none := netip.AddrPort{}
	if _, err := io.ReadFull(r, fixed[proxyShort:]); err != nil {
		return none, fmt.Errorf("%w: %w", errProxyHeader, err)
	}
	command, family := fixed[12], fixed[13]
	size := int(binary.BigEndian.Uint16(fixed[14:]))
	switch {
	case command != proxyLocal && command != proxyProxy:
		return none, fmt.Errorf("%w: version and command %#x", errProxyHeader, command)
	case size > proxyBody:
		return none, fmt.Errorf("%w: %d bytes", errProxyHeader, size)
	}
	var body bytes.Buffer // grows with what arrives
	if n, err := io.CopyN(&body, r, int64(size)); err != nil {
		return none, fmt.Errorf("%w: ends after %d of %d bytes: %w", errProxyHeader, n, size, err)
	}
	client, extra, err := parseProxy2(command, family, body.Bytes())
	if err == nil {
		err = checkTLVs(fixed, body.Bytes(), extra)
	}
	if err != nil {
		return none, fmt.Errorf("%w: %w", errProxyHeader, err)
	}
	return client, nil
}

// parseProxy2 returns the client's address, and the length of the TLVs at the
// end of the body.
func parseProxy2(command, family byte, body []byte) (client netip.AddrPort, extra int, err error) {
	if command == proxyLocal {
		return client, 0, nil // the proxy's own, such as a health check: the rest is to be ignored
	}
	size := 0
	switch family {
	case proxyTCP4:
		size = 4 + 4 + 2 + 2
	case proxyTCP6:
		size = 16 + 16 + 2 + 2
	case proxyUnix:
		size = 108 + 108
	case proxyUnspec:
	default:
		return client, 0, fmt.Errorf("address family and protocol %#x", family)
	}
	if len(body) < size {
		return client, 0, fmt.Errorf("%d bytes are no addresses of family %#x", len(body), family)
	}
	switch family {
	case proxyUnspec:
		return client, 0, nil // what follows has no defined form
	case proxyTCP4:
		client = netip.AddrPortFrom(netip.AddrFrom4([4]byte(body[:4])), binary.BigEndian.Uint16(body[8:]))
	case proxyTCP6:
		client = netip.AddrPortFrom(netip.AddrFrom16([16]byte(body[:16])).Unmap(), binary.BigEndian.Uint16(body[32:]))
	}
	return client, len(body) - size, nil
}

// checkTLVs walks over the TLVs, the last n bytes of body. They are ignored but
// for their form and the checksum, if there is one.
func checkTLVs(fixed, body []byte, n int) error {
	for at := len(body) - n; at < len(body); {
		if len(body)-at < 3 {
			return errors.New("ends within a TLV")
		}
		size := int(binary.BigEndian.Uint16(body[at+1:]))
		value := at + 3
		if len(body)-value < size {
			return errors.New("ends within the value of a TLV")
		}
		if body[at] == proxyCRC32C {
			if err := checkProxySum(fixed, body, value, size); err != nil {
				return err
			}
		}
		at = value + size
	}
	return nil
}

// checkProxySum compares the checksum at body[value:] with that of the whole
// header, which counts the checksum itself as zero.
func checkProxySum(fixed, body []byte, value, size int) error {
	if size != 4 {
		return errors.New("checksum is not of 4 bytes")
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(0, table, fixed)
	sum = crc32.Update(sum, table, body[:value])
	sum = crc32.Update(sum, table, make([]byte, 4))
	sum = crc32.Update(sum, table, body[value+4:])
	if sum != binary.BigEndian.Uint32(body[value:]) {
		return errors.New("checksum does not match")
	}
	return nil
}
