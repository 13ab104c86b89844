package config

// Admin configures the HTTP API.
type Admin struct {
	AllowAnonymous   bool     `key:"allow_anonymous" help:"as --allow-anonymous, for this side only"`
	TLS              AdminTLS `key:"tls"`
	Auth             []string `key:"auth" help:"ways to say who one is: api_key, mtls; with any of them nobody is let in without"`
	MetricsAuth      bool     `key:"metrics_auth" help:"whether /metrics asks who reads it, once the rest of the API does"`
	BootstrapKeyFile string   `key:"bootstrap_key_file" help:"file with a key, or its hash, that is an administrator's on this node alone: for the first key"`
}

// AdminTLS is the TLS of admin_addr.
type AdminTLS struct {
	Cert       string `key:"cert" help:"certificate chain, PEM"`
	Key        string `key:"key" help:"private key, PEM"`
	MinVersion string `key:"min_version" oneof:"1.2 1.3" help:"least TLS version"`
	ClientCA   string `key:"client_ca" help:"certificates that sign those of operators, PEM; their unit (OU) flotilla-ROLE names the role"`
}

// Set says whether there is a certificate.
func (t *AdminTLS) Set() bool { return t.Cert != "" || t.Key != "" }

// AdminAnonymous says whether the API may listen beyond loopback: that is
// accepted, or authentication is configured.
func (c *Config) AdminAnonymous() bool {
	return c.AllowAnonymous || c.Admin.AllowAnonymous || len(c.Admin.Auth) > 0 || c.Admin.BootstrapKeyFile != ""
}

func (c *Config) checkAdmin(bad badFn) {
	a := &c.Admin
	if (a.TLS.Cert == "") != (a.TLS.Key == "") {
		bad("admin.tls.cert and admin.tls.key belong together: one of them is missing")
	}
	mtls := false
	for _, way := range a.Auth {
		switch way {
		case "api_key":
		case "mtls":
			mtls = true
		default:
			bad("admin.auth %q is unknown: use api_key, mtls or both", way)
		}
	}
	switch {
	case mtls && (a.TLS.ClientCA == "" || !a.TLS.Set()):
		bad("admin.auth mtls needs admin.tls.cert, admin.tls.key and admin.tls.client_ca")
	case !mtls && a.TLS.ClientCA != "":
		bad("admin.tls.client_ca is set, but nobody is asked for a certificate: add mtls to admin.auth")
	case a.TLS.ClientCA != "" && !a.TLS.Set():
		bad("admin.tls.client_ca needs admin.tls.cert and admin.tls.key")
	}
}

// AdminInTheClear says that API keys would cross a network unprotected.
func (c *Config) AdminInTheClear() bool {
	return c.AdminAddr.On() && !c.AdminAddr.Loopback() && !c.Admin.TLS.Set() && (len(c.Admin.Auth) > 0 || c.Admin.BootstrapKeyFile != "")
}
