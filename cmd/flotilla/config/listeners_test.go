package config

import (
	"strings"
	"testing"
)

// TestListsOfSections: faults inside of lists have file, line and column, too.
func TestListsOfSections(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "listeners:\n  - {name: a, adr: 127.0.0.1:1}\n", `f:2:15: unknown key "listeners[0].adr": did you mean "addr"?`},
		{"duplicate", "listeners: [{name: a, name: b}]", `f:1:23: duplicate key "listeners[0].name"`},
		{"bad address", "listeners: [{name: a, addr: x}]", `f:1:29: listeners[0].addr: "x" is not HOST:PORT`},
		{"no mapping", "listeners: [a]", `f:1:13: listeners[0] must be a mapping`},
		{"no list", "listeners: a", `f:1:12: listeners: must be a list of mappings`},
		{"proxy", "listeners: [{proxy_protocol: v3}]", `f:1:30: listeners[0].proxy_protocol: "v3" is not one of off, v1, v2, any`},
		{"tls", "listeners: [{tls: 7}]", `f:1:19: listeners[0].tls: "7" is neither true nor false`},
		{"tls section", "listeners: [{tls: {crt: x}}]", `f:1:20: unknown key "listeners[0].tls.crt": did you mean "cert"?`},
		{"second item", "listeners: [{name: a}, {nam: b}]", `f:1:25: unknown key "listeners[1].nam": did you mean "name"?`},
		{"backend", "auth: {chain: [{type: magic}]}", `f:1:23: auth.chain[0].type: "magic" is not one of file`},
		{"backend key", "auth: {chain: [{type: file, file: x}]}", `f:1:29: unknown key "auth.chain[0].file"`},
		{"unknown top key", "listener: []", `did you mean "listeners"?`},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := Default()
			err := applyFile(&cfg, "f", []byte(c.text), map[string]string{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

// TestRelationsOfListeners judges what single values cannot show.
func TestRelationsOfListeners(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"fine", "listeners: [{name: a, addr: 127.0.0.1:1}, {name: b, addr: '[::1]:1', proxy_protocol: any, trusted_proxies: [10.1.2.3, 'fd00::/8']}]", ""},
		{"tls inherited", "tls: {cert: c, key: k}\nlisteners: [{name: a, addr: 127.0.0.1:1, tls: true}]", ""},
		{"authentication lifts the address rule", "auth: {chain: [{type: file, path: u}]}\nmqtt_addr: 0.0.0.0:1883\nlisteners: [{name: a, addr: 0.0.0.0:1}]", ""},
		{"no name", "listeners: [{addr: 127.0.0.1:1}]", "listeners[0].name is missing"},
		{"name taken", "listeners: [{name: mqtt, addr: 127.0.0.1:1}]", `listeners[0].name "mqtt" is taken`},
		{"names twice", "listeners: [{name: a, addr: 127.0.0.1:1}, {name: a, addr: 127.0.0.1:2}]", `listeners[1].name "a" is taken`},
		{"no address", "listeners: [{name: a}]", "listeners[0].addr is missing"},
		{"beyond loopback", "listeners: [{name: a, addr: 0.0.0.0:1}]", "listeners[0].addr 0.0.0.0:1 is beyond loopback"},
		{"no certificate", "listeners: [{name: a, addr: 127.0.0.1:1, tls: true}]", "listeners[0].tls needs a certificate"},
		{"half a certificate", "listeners: [{name: a, addr: 127.0.0.1:1, tls: {cert: x}}]", "listeners[0].tls.cert and listeners[0].tls.key belong together"},
		{"proxy without networks", "listeners: [{name: a, addr: 127.0.0.1:1, proxy_protocol: v1}]", "belong together"},
		{"networks without proxy", "listeners: [{name: a, addr: 127.0.0.1:1, trusted_proxies: [10.0.0.0/8]}]", "belong together"},
		{"no network", "listeners: [{name: a, addr: 127.0.0.1:1, proxy_protocol: v1, trusted_proxies: [10.0.0.0/99]}]", "is no network"},
		{"client CA not asked for", "tls: {cert: c, key: k, client_ca: x}", "tls.client_ca is set, but clients are not asked"},
		{"client auth without CA", "tls: {cert: c, key: k, client_auth: require}", "tls.client_auth require needs tls.client_ca"},
		{"backend without path", "auth: {chain: [{type: file}]}", "auth.chain[0].path is missing"},
		{"backend without type", "auth: {chain: [{path: x}]}", "auth.chain[0].type is missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := Default()
			if err := applyFile(&cfg, "f", []byte(c.text), map[string]string{}); err != nil {
				t.Fatal(err)
			}
			err := cfg.Validate()
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
