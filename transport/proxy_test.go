package transport

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/flotilla-mqtt/flotilla/transport/transporttest"
	"github.com/prometheus/client_golang/prometheus"
)

// proxy2 builds a header of version 2.
func proxy2(command, family byte, body ...[]byte) string {
	b := bytes.Join(body, nil)
	h := append([]byte(proxySign2), command, family)
	return string(append(binary.BigEndian.AppendUint16(h, uint16(len(b))), b...))
}

func tlv(kind byte, value string) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(value))), value...)
}

// ends4 and ends6 are the address blocks of 1.2.3.4:1000 to 5.6.7.8:1883 and of
// [2001:db8::1]:1000 to [2001:db8::2]:1883.
func ends4() []byte { return []byte{1, 2, 3, 4, 5, 6, 7, 8, 3, 0xE8, 7, 0x5B} }

func ends6() []byte {
	b := make([]byte, 36)
	copy(b, "\x20\x01\x0d\xb8")
	copy(b[16:], "\x20\x01\x0d\xb8")
	b[15], b[31] = 1, 2
	copy(b[32:], ends4()[8:])
	return b
}

// summed fills the checksum TLV at the end of a header.
func summed(h string) string {
	b := []byte(h)
	binary.BigEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return string(b)
}

const bad = "bad"

// proxyCases: headers, and the address that they name: "" for none, bad for a
// header that closes the connection.
func proxyCases() []struct{ name, header, want string } {
	v4, v6 := "1.2.3.4:1000", "[2001:db8::1]:1000"
	ssl := tlv(0x20, "\x01\x00\x00\x00\x00"+string(tlv(0x21, "TLSv1.3"))+string(tlv(0x22, "device-1")))
	return []struct{ name, header, want string }{
		{"v1 TCP4", "PROXY TCP4 1.2.3.4 5.6.7.8 1000 1883\r\n", v4},
		{"v1 TCP6", "PROXY TCP6 2001:db8::1 2001:db8::2 1000 1883\r\n", v6},
		{"v1 longest", "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
			"[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
		{"v1 mapped", "PROXY TCP6 ::ffff:1.2.3.4 ::1 1000 1883\r\n", v4},
		{"v1 unknown", "PROXY UNKNOWN\r\n", ""},
		{"v1 unknown with more", "PROXY UNKNOWN ffff::1 whatever 1 2\r\n", ""},
		{"v1 longest unknown", "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", ""},
		{"v1 unknown family", "PROXY UDP4 1.2.3.4 5.6.7.8 1000 1883\r\n", bad},
		{"v1 unknown as a prefix", "PROXY UNKNOWNS\r\n", bad},
		{"v1 too long", "PROXY UNKNOWN " + strings.Repeat("x", 92) + "\r\n", bad},
		{"v1 endless", "PROXY " + strings.Repeat("x", 200), bad},
		{"v1 LF alone", "PROXY TCP4 1.2.3.4 5.6.7.8 1000 1883\n", bad},
		{"v1 too short", "PROXY T\r\n1.2.3.4 5.6.7.8 1000 1883\r\n", bad},
		{"v1 nothing", "PROXY \r\n\x10\x0c\x00\x04MQTT", bad},
		{"v1 family of the other", "PROXY TCP4 ::1 ::1 1000 1883\r\n", bad},
		{"v1 the other family", "PROXY TCP6 1.2.3.4 5.6.7.8 1000 1883\r\n", bad},
		{"v1 zone", "PROXY TCP6 fe80::1%eth0 ::1 1000 1883\r\n", bad},
		{"v1 two spaces", "PROXY TCP4 1.2.3.4  5.6.7.8 1000 1883\r\n", bad},
		{"v1 one more field", "PROXY TCP4 1.2.3.4 5.6.7.8 1000 1883 1\r\n", bad},
		{"v1 one field less", "PROXY TCP4 1.2.3.4 5.6.7.8 1000\r\n", bad},
		{"v1 port too large", "PROXY TCP4 1.2.3.4 5.6.7.8 65536 1883\r\n", bad},
		{"v1 port with zero", "PROXY TCP4 1.2.3.4 5.6.7.8 01000 1883\r\n", bad},
		{"v1 port with sign", "PROXY TCP4 1.2.3.4 5.6.7.8 +1000 1883\r\n", bad},
		{"v1 second port", "PROXY TCP4 1.2.3.4 5.6.7.8 1000 -1\r\n", bad},
		{"v1 octet with zero", "PROXY TCP4 01.2.3.4 5.6.7.8 1000 1883\r\n", bad},
		{"v1 host name", "PROXY TCP4 localhost 5.6.7.8 1000 1883\r\n", bad},
		{"v1 small letters", "proxy TCP4 1.2.3.4 5.6.7.8 1000 1883\r\n", bad},
		{"v1 cut off", "PROXY TCP4 1.2.3.4 5.6", bad},
		{"v2 TCP4", proxy2(0x21, 0x11, ends4()), v4},
		{"v2 TCP6", proxy2(0x21, 0x21, ends6()), v6},
		{"v2 unix", proxy2(0x21, 0x31, make([]byte, 216)), ""},
		{"v2 unspecified", proxy2(0x21, 0x00), ""},
		{"v2 unspecified with bytes", proxy2(0x21, 0x00, []byte("anything")), ""},
		{"v2 local", proxy2(0x20, 0x00), ""},
		{"v2 local with addresses", proxy2(0x20, 0x11, ends4()), ""},
		{"v2 local with anything", proxy2(0x20, 0x77, []byte("anything")), ""},
		{"v2 TLVs", proxy2(0x21, 0x11, ends4(), tlv(0x01, "mqtt"), tlv(0x04, ""), tlv(0xE0, "own")), v4},
		{"v2 SSL", proxy2(0x21, 0x21, ends6(), ssl), v6},
		{"v2 SSL of nonsense", proxy2(0x21, 0x11, ends4(), tlv(0x20, "\xff\xff")), v4},
		{"v2 largest TLV", proxy2(0x21, 0x11, ends4(), tlv(0x25, strings.Repeat("c", proxyBody-12-3))), v4},
		{"v2 TLV too large", proxy2(0x21, 0x11, ends4(), tlv(0x25, strings.Repeat("c", proxyBody-12-2))), bad},
		{"v2 TLV cut off", proxy2(0x21, 0x11, ends4(), []byte{1, 0}), bad},
		{"v2 TLV value cut off", proxy2(0x21, 0x11, ends4(), []byte{1, 0, 2, 0}), bad},
		{"v2 checksum", summed(proxy2(0x21, 0x11, ends4(), tlv(0x01, "x"), tlv(0x03, "\x00\x00\x00\x00"))), v4},
		{"v2 wrong checksum", proxy2(0x21, 0x11, ends4(), tlv(0x03, "\x00\x00\x00\x00")), bad},
		{"v2 short checksum", proxy2(0x21, 0x11, ends4(), tlv(0x03, "\x00\x00")), bad},
		{"v2 other version", proxy2(0x11, 0x11, ends4()), bad},
		{"v2 other command", proxy2(0x22, 0x11, ends4()), bad},
		{"v2 UDP", proxy2(0x21, 0x12, ends4()), bad},
		{"v2 other family", proxy2(0x21, 0x41, ends4()), bad},
		{"v2 addresses cut off", proxy2(0x21, 0x11, ends4()[:11]), bad},
		{"v2 IPv6 addresses cut off", proxy2(0x21, 0x21, ends4()), bad},
		{"v2 65,535 bytes", proxySign2 + "\x21\x11\xff\xff" + string(ends4()), bad},
		{"v2 body cut off", proxy2(0x21, 0x11, ends4())[:20], bad},
		{"v2 head cut off", proxySign2 + "\x21", bad},
		{"v2 sign wrong", "\r\n\r\n\x00\r\nQUIX\n" + "\x21\x11\x00\x00", bad},
		{"MQTT", "\x10\x0e\x00\x04MQTT\x04\x02\x00\x00\x00\x02me", bad},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", bad},
		{"HTTP", "GET /mqtt HTTP/1.1\r\n", bad},
		{"nothing", "", bad},
	}
}

// What a header means, however its bytes arrive, and that nothing behind it is
// touched.
func TestProxyHeaders(t *testing.T) {
	for _, c := range proxyCases() {
		for _, slow := range []bool{false, true} {
			src := strings.NewReader(c.header)
			if c.want != bad {
				src = strings.NewReader(c.header + "\x10rest")
			}
			var r io.Reader = src
			if slow {
				r = iotest.OneByteReader(src)
			}
			got, err := readProxyHeader(r, ProxyAny)
			switch {
			case c.want == bad:
				if !errors.Is(err, errProxyHeader) {
					t.Errorf("%s: %v, %v", c.name, got, err)
				}
				continue
			case err != nil:
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			want, _ := netip.ParseAddrPort(c.want)
			if got != want {
				t.Errorf("%s: %v, want %v", c.name, got, want)
			}
			if rest, _ := io.ReadAll(src); string(rest) != "\x10rest" {
				t.Errorf("%s: %q is left", c.name, rest)
			}
		}
	}
}

// A version that is not configured is refused.
func TestProxyVersionIsTheConfiguredOne(t *testing.T) {
	for _, c := range proxyCases() {
		other := ProxyV2
		if strings.HasPrefix(c.name, "v2") {
			other = ProxyV1
		}
		if _, err := readProxyHeader(strings.NewReader(c.header), other); !errors.Is(err, errProxyHeader) {
			t.Errorf("%s: taken for version %s", c.name, other)
		}
	}
}

// FuzzProxyHeader: no input panics, and no header reads a byte too much or more
// than its bound.
func FuzzProxyHeader(f *testing.F) {
	for _, c := range proxyCases() {
		f.Add([]byte(c.header), byte(ProxyAny))
	}
	f.Fuzz(func(t *testing.T, header []byte, mode byte) {
		m := ProxyMode(mode % 4)
		whole := bytes.NewReader(header)
		got, err := readProxyHeader(whole, m)
		if err != nil {
			return
		}
		used := len(header) - whole.Len()
		if used > proxyFixed+proxyBody || m == ProxyV1 && used > proxyLine {
			t.Fatalf("%d bytes used", used)
		}
		again, err := readProxyHeader(iotest.OneByteReader(bytes.NewReader(header[:used])), m)
		if err != nil || again != got {
			t.Fatalf("%q alone: %v, %v; want %v", header[:used], again, err, got)
		}
		if _, err := readProxyHeader(bytes.NewReader(header[:used-1]), m); err == nil {
			t.Fatalf("%q is good without its last byte", header[:used])
		}
	})
}

// proxyPort opens a port that trusts the hub's node 10.0.0.1.
func proxyPort(t *testing.T, reg *prometheus.Registry, edit func(*ClientConfig)) (*ClientPort, *transporttest.Hub) {
	t.Helper()
	hub := transporttest.NewHub()
	trusted, err := ParseProxies([]string{"10.0.0.0/30", "fd00::/8"})
	if err != nil {
		t.Fatal(err)
	}
	return openClients(t, func(c *ClientConfig) {
		c.Network, c.Addr, c.Registerer = hub.Node("n1"), "n1:1883", reg
		c.Proxy, c.TrustedProxies = ProxyAny, trusted
		if edit != nil {
			edit(c)
		}
	}), hub
}

// The header is read before TLS and the first byte; the address is the
// client's, and the proxy's is known.
func TestProxyBeforeEverything(t *testing.T) {
	for _, secure := range []bool{false, true} {
		for _, c := range proxyCases() {
			if c.want == bad {
				continue
			}
			synctest.Test(t, func(t *testing.T) {
				ca := newAuthority(t)
				p, hub := proxyPort(t, prometheus.NewRegistry(), func(cfg *ClientConfig) {
					if secure {
						cfg.TLS = serverConfig(t, ca)
					}
				})
				conn := dialRaw(t, hub.Node("10.0.0.1"), p.Addr())
				for i := range len(c.header) { // as slowly as it gets
					mustWrite(t, conn, c.header[i:i+1])
				}
				if secure {
					conn = tls.Client(conn, &tls.Config{RootCAs: ca.pool, ServerName: "mqtt.example"})
				}
				mustWrite(t, conn, "\x10hello")
				s := mustServe(t, p)
				mustRead(t, s, "\x10hello")
				mustWrite(t, s, "back")
				mustRead(t, conn, "back")
				switch {
				case c.want == "" && (s.ProxyAddr() != nil || !strings.HasPrefix(s.RemoteAddr().String(), "10.0.0.1:")):
					t.Errorf("%s: client %v, proxy %v", c.name, s.RemoteAddr(), s.ProxyAddr())
				case c.want != "" && (s.ProxyAddr() == nil || s.RemoteAddr().String() != c.want):
					t.Errorf("%s: client %v, proxy %v", c.name, s.RemoteAddr(), s.ProxyAddr())
				}
				conn.Close()
				p.Close()
			})
		}
	}
}

// Who must send a header and does not, who may not and does, and who is slow.
func TestProxyRefusals(t *testing.T) {
	v1, v2 := "PROXY TCP4 1.2.3.4 5.6.7.8 1000 1883\r\n", proxy2(0x21, 0x11, ends4())
	for name, c := range map[string]struct {
		from, first, reason string
		secure              bool
		after               time.Duration
	}{
		"stranger with v1":           {"10.0.0.9", v1 + "\x10", reasonProxyStranger, false, 0},
		"stranger with v2":           {"10.0.0.9", v2 + "\x10", reasonProxyStranger, false, 0},
		"stranger with v1, TLS":      {"10.0.0.9", v1, reasonProxyStranger, true, 0},
		"stranger with v2, TLS":      {"10.0.0.9", v2, reasonProxyStranger, true, 0},
		"proxy without, MQTT":        {"10.0.0.1", "\x10\x0e\x00\x04MQTT", reasonProxyHeader, false, 0},
		"proxy without, HTTP":        {"10.0.0.1", "GET /mqtt", reasonProxyHeader, false, 0},
		"proxy without, TLS":         {"10.0.0.1", "\x16\x03\x01", reasonProxyHeader, true, 0},
		"proxy, header twice":        {"10.0.0.1", v1 + v1, reasonProxyStranger, false, 0},
		"proxy, v1 then v2":          {"10.0.0.2", v1 + v2, reasonProxyStranger, false, 0},
		"proxy of IPv6 without":      {"fd00::1", "\x10", reasonProxyHeader, false, 0},
		"proxy silent":               {"10.0.0.1", "", reasonTimeout, false, 10 * time.Second},
		"proxy, half a header":       {"10.0.0.1", v1[:20], reasonTimeout, false, 10 * time.Second},
		"proxy, half a header of v2": {"10.0.0.1", v2[:20], reasonTimeout, false, 10 * time.Second},
		"proxy, then silent":         {"10.0.0.1", v2, reasonTimeout, false, 10 * time.Second},
		"MQTT in clear":              {"10.0.0.9", "\x10\x0e\x00\x04MQTT", reasonNotTLS, true, 0},
		"HTTP in clear":              {"10.0.0.9", "GET / HTTP/1.1\r\n", reasonNotTLS, true, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			p, hub := proxyPort(t, reg, func(cfg *ClientConfig) {
				cfg.Name = "x"
				if c.secure {
					cfg.TLS = serverConfig(t, newAuthority(t))
				}
			})
			conn := dialRaw(t, hub.Node(c.from), p.Addr())
			start := time.Now()
			mustWrite(t, conn, c.first)
			_, _ = io.Copy(io.Discard, conn) // a TLS alert, perhaps
			if d := time.Since(start); d != c.after {
				t.Errorf("%s: closed after %v", name, d)
			}
			synctest.Wait()
			if n := metric(t, reg, "flotilla_listener_rejected_total", "reason", c.reason); n != 1 {
				t.Errorf("%s: %v rejected for %s", name, n, c.reason)
			}
			if n := p.in.adm.pendingLen(); n != 0 || hub.Conns("n1") != 0 {
				t.Errorf("%s: %d places taken, %d connections", name, n, hub.Conns("n1"))
			}
			p.Close()
		})
	}
}

// A stranger without a header is a client like any other.
func TestStrangersAreServedDirectly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, hub := proxyPort(t, prometheus.NewRegistry(), nil)
		conn := dialRaw(t, hub.Node("192.0.2.7"), p.Addr())
		mustWrite(t, conn, "\x10direct")
		c := mustServe(t, p)
		if c.ProxyAddr() != nil || !strings.HasPrefix(c.RemoteAddr().String(), "192.0.2.7:") {
			t.Errorf("client %v, proxy %v", c.RemoteAddr(), c.ProxyAddr())
		}
		p.Close()
	})
}

// On a port of both families IPv4 addresses come mapped into IPv6.
func TestTrustedAddresses(t *testing.T) {
	networks, err := ParseProxies([]string{"10.0.0.0/8", "fe80::/10"})
	if err != nil {
		t.Fatal(err)
	}
	for s, want := range map[string]bool{
		"10.1.2.3:1": true, "[::ffff:10.1.2.3]:1": true, "11.1.2.3:1": false, "[::ffff:11.1.2.3]:1": false, "[fe80::1%eth0]:1": true, "[fd00::1]:1": false,
	} {
		addr := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s))
		if got := trusted(networks, addr); got != want {
			t.Errorf("%s: %v", s, got)
		}
	}
	if trusted(networks, &net.UnixAddr{Name: "10.0.0.1"}) {
		t.Error("a Unix socket is trusted")
	}
}

func TestProxyConfiguration(t *testing.T) {
	for s, want := range map[string]ProxyMode{"": ProxyOff, "off": ProxyOff, "v1": ProxyV1, "v2": ProxyV2, "any": ProxyAny} {
		if got, err := ParseProxyMode(s); err != nil || got != want || s != "" && got.String() != s {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	if _, err := ParseProxyMode("V2"); !errors.Is(err, ErrConfig) {
		t.Errorf("V2: %v", err)
	}
	got, err := ParseProxies([]string{"10.1.2.3/8", "192.0.2.1", "::1", "fd00::/8"})
	if want := "[10.0.0.0/8 192.0.2.1/32 ::1/128 fd00::/8]"; err != nil || strings.Trim(strings.Join(strs(got), " "), " ") != want[1:len(want)-1] {
		t.Errorf("%v, %v", got, err)
	}
	for _, s := range []string{"", "lb.example", "10.0.0.0/33", "fe80::1%eth0", "::ffff:10.0.0.0/104", "10.0.0.1:80"} {
		if got, err := ParseProxies([]string{s}); !errors.Is(err, ErrConfig) {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	any4 := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
	for name, edit := range map[string]func(*ClientConfig){
		"nobody trusted":  func(c *ClientConfig) { c.Proxy = ProxyV1 },
		"trusted but off": func(c *ClientConfig) { c.TrustedProxies = any4 },
		"unknown mode":    func(c *ClientConfig) { c.Proxy, c.TrustedProxies = 9, any4 },
		"mapped network": func(c *ClientConfig) {
			c.Proxy, c.TrustedProxies = ProxyV1, []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")}
		},
	} {
		cfg := ClientConfig{Addr: "127.0.0.1:0"}
		edit(&cfg)
		if p, err := OpenClientPort(cfg); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
			if p != nil {
				p.Close()
			}
		}
	}
}

func strs(list []netip.Prefix) (out []string) {
	for _, p := range list {
		out = append(out, p.String())
	}
	return out
}
