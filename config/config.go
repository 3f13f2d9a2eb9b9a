// Package config holds the settings of disc: their defaults, the config file, the
// environment and the flags, in rising precedence, checked as a whole. Whatever is
// wrong (an unknown key, a wrong type, an impossible value) is reported at once, each
// problem with the file, line and key, variable or flag that it comes from.
//
// One table, in table.go, has a row for every setting. From it come the flags
// ([AddFlags]), the environment variables, the keys that the file may have, the
// defaults, and the listing of where each value came from ([Config.Settings]).
//
//	config.AddFlags(command.PersistentFlags(), config.Global)
//	...
//	cfg, err := config.Load(command.Flags(), config.ThisHost())
//
// A setting's variable is DISC_ and its flag, or else its key, in capitals with _ for
// every other sign: DISC_ENDPOINTS for --endpoints, DISC_SESSION_TTL for session.ttl.
// Lists are split at commas. An empty variable counts as absent.
package config

import (
	"fmt"
	"log/slog"
	"time"

	"disc/discovery"
)

// Config is every setting, checked. Its fields mirror the keys of the config file.
type Config struct {
	File        string // the config file that was read; "" when there is none
	Namespace   string
	Node        string // default: the host name
	Zone        string
	Advertise   string // IP address or host name; "": the agent finds it
	DataDir     string
	Etcd        Etcd
	Session     Session
	Catalog     Catalog
	HTTP        HTTP
	DNS         DNS
	GRPC        GRPC
	OnStop      OnStop
	DrainDelay  time.Duration // at least 0
	KillTimeout time.Duration // at least 0
	Log         Log
	CLI         CLI

	// Services are what the agent registers by itself. They have their ids, zones and
	// checks' defaults; the address is "" where it is to be the advertised one and that
	// is not configured.
	Services []discovery.Registration

	origins        map[string]origin
	serviceOrigins []origin
}

// Session is about the agent's etcd lease.
type Session struct {
	TTL time.Duration // 5 s to 1 h, whole seconds
}

// What of the namespace is watched.
const (
	WatchAuto   = "auto" // all of a small fleet; of a large one what is asked for
	WatchAll    = "all"
	WatchLazy   = "lazy" // what is asked for
	WatchListed = "list" // the services that the setting lists
)

// Catalog is about the local view of the namespace.
type Catalog struct {
	Watch      string        // what is watched: WatchAuto, WatchAll, WatchLazy or WatchListed
	Services   []string      // with WatchListed: these
	StaleAfter time.Duration // above 0: the age from which a view is stale
	Panic      float64       // 0 to 1: the healthy part below which all are answered; 0: never
}

// HTTP is about the agent's HTTP API.
type HTTP struct {
	Listen     string   // host:port; "": on the socket only
	Socket     string   // path of a Unix socket; "": none
	AllowHosts []string // Host headers that are accepted besides loopback's
	TokenFile  string   // holds the bearer token that writes need; "": none
	TLS        TLS
}

// TLS is a server's certificate and key, as paths of PEM files; both or neither are set.
type TLS struct {
	Cert, Key string
}

// DNS is about the agent's DNS server.
type DNS struct {
	Listen     string        // host:port; "": no DNS
	Domain     string        // lower case, with a dot at the end
	TTL        time.Duration // of answers; 0 to 24 h, whole seconds
	PreferZone bool          // answer with the agent's own zone first
}

// GRPC is about the agent's gRPC server, for Envoy.
type GRPC struct {
	Listen string // host:port of loopback; "": no gRPC
}

// OnStop is what becomes of an agent's records when it is told to stop.
type OnStop string

// The ways to stop.
const (
	Leave OnStop = "leave" // say goodbye and deregister
	Keep  OnStop = "keep"  // leave records and lease to the successor, for upgrades
)

// Log is about the log on stderr.
type Log struct {
	Level  slog.Level
	Format LogFormat
}

// LogFormat is how log lines are written.
type LogFormat string

// The formats of the log.
const (
	LogAuto LogFormat = "auto" // text on a terminal, JSON otherwise
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
)

// CLI is about the command line.
type CLI struct {
	Agent   string // URL of this host's agent: http, https or unix:///path
	CACert  string // file of the CA certificates that the agent's is checked against; "": the system's
	Output  string // table, wide, json, jsonl, yaml, name, addr, file_sd or template=…
	NoColor bool   // --no-color; that NO_COLOR says the same is for the terminal's owner to see
	Verbose bool   // --verbose; it also sets the log's level to debug
}

// Setting is a setting as it is shown to people. Secrets are left out of Value.
type Setting struct {
	Key    string `json:"key" yaml:"key"`
	Value  string `json:"value" yaml:"value"`
	Origin string `json:"origin" yaml:"origin"` // default, file PATH:LINE, env NAME or flag --NAME
}

// Asked reports whether a setting was given for this run, by its flag or variable.
func (c *Config) Asked(key string) bool {
	source := c.origins[key].source
	return source == fromFlag || source == fromEnv
}

// Settings lists every setting and where its value came from, in the order of the
// table; then the services of the file, one line for each.
func (c *Config) Settings() []Setting {
	var all []Setting
	for _, s := range settings() {
		all = append(all, Setting{s.key, s.show(c), c.origins[s.key].String()})
	}
	for n, r := range c.Services {
		all = append(all, Setting{fmt.Sprintf("services[%d]", n), r.Service + "/" + r.ID, c.serviceOrigins[n].String()})
	}
	return all
}
