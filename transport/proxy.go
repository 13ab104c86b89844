package transport

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// ProxyMode says which PROXY protocol a client port speaks with its proxies.
type ProxyMode byte

// The modes.
const (
	// ProxyOff takes no headers. It is the default.
	ProxyOff ProxyMode = 0
	// ProxyV1 takes the readable header of version 1.
	ProxyV1 ProxyMode = 1
	// ProxyV2 takes the binary header of version 2.
	ProxyV2 ProxyMode = 2
	// ProxyAny takes both.
	ProxyAny ProxyMode = 3
)

func (m ProxyMode) String() string {
	switch m {
	case ProxyOff:
		return "off"
	case ProxyV1:
		return "v1"
	case ProxyV2:
		return "v2"
	case ProxyAny:
		return "any"
	}
	return fmt.Sprintf("proxy_%d", byte(m))
}

// ParseProxyMode returns the mode that is written "off", "v1", "v2" or "any".
// Nothing written is off.
func ParseProxyMode(s string) (ProxyMode, error) {
	switch s {
	case "", "off":
		return ProxyOff, nil
	case "v1":
		return ProxyV1, nil
	case "v2":
		return ProxyV2, nil
	case "any":
		return ProxyAny, nil
	}
	return 0, fmt.Errorf("%w: PROXY protocol %q; off, v1, v2 or any", ErrConfig, s)
}

// ParseProxies returns the networks that are written as prefixes or as single
// addresses.
func ParseProxies(list []string) ([]netip.Prefix, error) {
	out := make([]netip.Prefix, 0, len(list))
	for _, s := range list {
		var p netip.Prefix
		var err error
		if strings.Contains(s, "/") {
			p, err = netip.ParsePrefix(s)
		} else {
			var a netip.Addr
			if a, err = netip.ParseAddr(s); err == nil && a.Zone() == "" {
				p = netip.PrefixFrom(a, a.BitLen())
			}
		}
		if err != nil || !validProxy(p) {
			return nil, fmt.Errorf("%w: trusted proxy %q is no network", ErrConfig, s)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// validProxy refuses what would never match a remote address.
func validProxy(p netip.Prefix) bool {
	return p.IsValid() && !p.Addr().Is4In6() && p.Addr().Zone() == ""
}

// trusted tells whether one of the networks holds the address.
func trusted(networks []netip.Prefix, addr net.Addr) bool {
	ap, ok := addrPort(addr)
	if !ok {
		return false
	}
	ip := ap.Addr().Unmap().WithZone("")
	for _, n := range networks {
		if n.Contains(ip) {
			return true
		}
	}
	return false
}

func addrPort(addr net.Addr) (netip.AddrPort, bool) {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		return tcp.AddrPort(), true
	}
	ap, err := netip.ParseAddrPort(addr.String())
	return ap, err == nil
}
