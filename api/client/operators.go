package client

// Paths of what operators look at and change on nodes.
const (
	PathSettings  = "/api/v1/settings"
	PathLoggers   = "/api/v1/loggers"
	PathListeners = "/api/v1/listeners"
	PathKick      = "/api/v1/clients/kick"
)

// Setting is a cluster setting. Key is its path below settings in a configuration file.
type Setting struct {
	Key     string   `json:"key"`
	Value   string   `json:"value"`
	Kind    string   `json:"kind" doc:"number, size, time, bool or word"`
	Words   []string `json:"words,omitempty" doc:"What a word may be."`
	Changes string   `json:"changes" doc:"When a change takes effect: live, new_connections, or never."`
	Help    string   `json:"help"`
}

// ChangedSettings are the settings that a request changed, or with dry_run would.
type ChangedSettings struct {
	DryRun bool      `json:"dry_run"`
	Items  []Setting `json:"items" nullable:"false"`
}

// Logger is the level of a logger on a node.
type Logger struct {
	Node  string `json:"node"`
	Name  string `json:"name" doc:"Empty: all that have no level of their own."`
	Level string `json:"level" doc:"debug, info, warn or error"`
}

// LoggerLevel asks for a level.
type LoggerLevel struct {
	Level string `json:"level" doc:"debug, info, warn or error; empty: what the node was started with."`
}

// Listener is a client port of a node.
type Listener struct {
	Node        string `json:"node"`
	Name        string `json:"name"`
	Addr        string `json:"addr"`
	TLS         bool   `json:"tls"`
	WebSocket   string `json:"websocket" doc:"Path of MQTT over WebSocket."`
	Proxy       string `json:"proxy_protocol" doc:"off, v1, v2 or any"`
	Accepting   bool   `json:"accepting" doc:"It lets clients in now."`
	Paused      bool   `json:"paused" doc:"An operator has paused it."`
	Connections int    `json:"connections" doc:"Connections with a session."`
}

// KickClients asks to disconnect all clients that match.
type KickClients struct {
	Filter     map[string]string `json:"filter" doc:"What a client must be: node, client_id, username, peer, listener, transport, mqtt_version, clean_start. All of them hold."`
	Rate       float64           `json:"rate,omitempty" minimum:"0" maximum:"10000" doc:"Clients a second; 100 if it is not given."`
	ReasonCode int               `json:"reason_code,omitempty" minimum:"0" maximum:"162" doc:"Of the DISCONNECT that MQTT 5 clients get; 152 (0x98) if it is not given."`
}
