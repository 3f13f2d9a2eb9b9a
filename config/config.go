// Package config loads and checks the settings of disc. They come from defaults, the config
// file, environment variables and flags, in rising precedence; viper picks the value.
// [Load] reports every problem at once (an unknown key, a wrong type, an impossible value),
// each with its origin: the file, line and key, the variable or the flag.
//
// One table, in settings.go, has a row for every setting. It defines the flags
// ([AddFlags]), the environment variables, the keys of the file, the defaults, and the
// listing of values with their origins ([Config.Settings]).
//
//	config.AddFlags(command.PersistentFlags(), config.Global)
//	...
//	cfg, err := config.Load(ctx, command.Flags(), config.ThisHost())
//
// The variable of a setting is named DISC_ and its flag, or its key if it has no flag, in
// capitals with _ for - and ".": DISC_ENDPOINTS for --endpoints, DISC_SESSION_TTL for
// session.ttl. Lists are split at commas. An empty variable counts as unset.
package config

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"disc/agent/access"
	"disc/config/input"
	"disc/discovery"
)

// Config holds every setting, checked. Its fields mirror the keys of the config file.
type Config struct {
	File        string // the config file that was read; "" when there is none
	Namespace   string
	Node        string // default: the host name
	Zone        string
	Advertise   string // IP address or host name; "": the agent determines it
	DataDir     string
	Etcd        Etcd
	Session     Session
	Catalog     Catalog
	KV          KV
	Checks      Checks
	HTTP        HTTP
	DNS         DNS
	GRPC        GRPC
	OnStop      OnStop
	DrainDelay  time.Duration // time that a stopping agent still answers; at least 0
	KillTimeout time.Duration // time between a child's SIGTERM and SIGKILL; at least 0
	Log         Log
	CLI         CLI

	// AllowSharedDirs accepts owners and modes of the data directory, of the files in it and of
	// the directory of HTTP.Socket by which other users can change them. The agent warns then.
	AllowSharedDirs bool

	// Services are the services of the config file, which the agent registers, with all
	// defaults filled in. An address is "" if the agent is to use the one that it
	// advertises and that one is not configured.
	Services []discovery.Registration

	origins        map[string]origin
	nulls          []problem       // the keys of the file without a value, without a text
	emptyFile      bool            // it has no keys
	lists          map[string]bool // which of listKeys the file has
	serviceOrigins []origin
	tokenOrigins   []origin
	clientOrigins  []origin
	caOrigins      map[string]origin // of the files that checks of Services name, by path in the file
}

// Session holds the settings of the agent's etcd lease.
type Session struct {
	TTL time.Duration // 5 s to 1 h, whole seconds
}

// The values of [Catalog.Watch]: which services of the namespace the agent watches.
const (
	WatchAuto   = "auto" // all in a small fleet, the requested ones in a large fleet
	WatchAll    = "all"
	WatchLazy   = "lazy" // the requested ones
	WatchListed = "list" // the ones in [Catalog.Services]
)

// Catalog holds the settings of the local view of the namespace.
type Catalog struct {
	Watch      string        // WatchAuto, WatchAll, WatchLazy or WatchListed
	Services   []string      // the services to watch, with WatchListed only
	StaleAfter time.Duration // age at which a view counts as stale; above 0
	Panic      float64       // healthy fraction, 0 to 1, below which answers contain all; 0: never

	HistoryBytes discovery.Bytes // most bytes of the changes that are kept; 0: none are
}

// KV holds the bounds of the namespace's shared state; 0: there is none.
type KV struct {
	MaxBytes           discovery.Bytes // of all keys and values
	MaxKeys            int64
	MaxWritesPerSecond int // of one agent: keys, and requests for locks and claims
}

// Checks holds the settings of the health checks of all instances.
type Checks struct {
	// Networks are the networks that a check which came over the HTTP API may probe beside
	// this host's own addresses, such as those of container bridges.
	Networks []netip.Prefix

	// PublishOutput writes the begin of a failing check's output to etcd, for all to read.
	PublishOutput bool
}

// HTTP holds the settings of the agent's HTTP API.
type HTTP struct {
	Listen     string   // host:port; "": only on Socket
	Socket     string   // path of a Unix socket; "": none
	AllowHosts []string // accepted Host headers, besides those of loopback
	TLS        TLS
	ClientCA   string // PEM file of the CAs that verify the certificates of Clients; "": none

	Tokens    []access.Token  // named tokens, each with scopes
	Clients   []access.Client // the names of client certificates, each with scopes
	TokenFile string          // file of a further token, which has every scope; "": none

	// Anonymous are the scopes of callers without a token or certificate, if AnonymousSet.
	// Otherwise they may read where there are tokens or clients, and are not restricted
	// where there are none.
	Anonymous    []access.Scope
	AnonymousSet bool

	AllowPlaintext bool // beyond loopback without TLS
}

// TLS holds the paths of a server's certificate and key (PEM); both or neither are set.
type TLS struct {
	Cert, Key string
}

// Load reads the certificate and the key.
func (t TLS) Load(ctx context.Context) (tls.Certificate, error) {
	cert, err := input.ReadFile(ctx, t.Cert, input.MaxPEM)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := input.ReadFile(ctx, t.Key, input.MaxPEM)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(cert, key)
}

// DNS holds the settings of the agent's DNS server.
type DNS struct {
	Listen     string         // host:port; "": no DNS
	Domain     string         // lower case, with a dot at the end
	TTL        time.Duration  // of answers; 0 to 24 h, whole seconds
	PreferZone bool           // answers begin with the agent's own zone
	Networks   []netip.Prefix // clients that are answered; none: see docs/production.md
	RateLimit  int            // whole answers per second to a network of clients; 0: unlimited; AutoRateLimit
}

// AutoRateLimit is the [DNS.RateLimit] that leaves the limit to the agent: none on loopback and for
// clients in private networks.
const AutoRateLimit = -1

// GRPC holds the settings of the agent's gRPC server, for Envoy.
type GRPC struct {
	Listen string // host:port on loopback; "": no gRPC
}

// OnStop is what an agent does with its records when it stops.
type OnStop string

// The values of [OnStop].
const (
	Leave OnStop = "leave" // deregister them
	Keep  OnStop = "keep"  // leave them and the lease to its successor, for upgrades
)

// Log holds the settings of the log on stderr.
type Log struct {
	Level  slog.Level
	Format LogFormat
}

// LogFormat is the format of log lines.
type LogFormat string

// The values of [LogFormat].
const (
	LogAuto LogFormat = "auto" // text on a terminal, JSON otherwise
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
)

// CLI holds the settings of the command line.
type CLI struct {
	Agent   string // address of this host's agent: http, https or unix:///path
	CACert  string // PEM file of the CAs that verify the agent's certificate; "": the system's
	Cert    string // PEM file of the client certificate; "": none
	Key     string // PEM file of its key; both or neither are set
	Output  string // table, wide, json, jsonl, yaml, name, addr, file_sd or template=…
	NoColor bool   // --no-color; package cli reads the variable NO_COLOR itself
	Verbose bool   // --verbose; also sets the log's level to debug

	Token            Secret // "": that of TokenFile
	TokenFile        string // "": that of the agent's own http.token_file
	SendTokenInClear bool   // to an agent on another host, without TLS
}

// Setting is a setting as people see it. Its Value contains no secrets.
type Setting struct {
	Key    string `json:"key" yaml:"key"`
	Value  string `json:"value" yaml:"value"`
	Origin string `json:"origin" yaml:"origin"` // default, file PATH:LINE, env NAME, flag --NAME or a command

	Variable string `json:"variable,omitempty" yaml:"variable,omitempty"` // "": none
	Meaning  string `json:"meaning" yaml:"meaning"`
}

// Explicit reports whether a flag or variable gives the setting.
func (c *Config) Explicit(key string) bool {
	source := c.origins[key].source
	return source == fromFlag || source == fromEnv
}

// FromFlag reports whether a setting comes from the command line.
func (c *Config) FromFlag(key string) bool { return c.origins[key].source == fromFlag }

// IsDefault reports whether a setting has its default.
func (c *Config) IsDefault(key string) bool { return c.origins[key].source == fromDefault }

// SetOrigin names the command that has set settings, in place of where they came from.
func (c *Config) SetOrigin(command string, keys ...string) {
	for _, key := range keys {
		c.origins[key] = origin{source: fromCommand, name: command}
	}
}

// Settings lists every setting with its origin, in the order of the table, followed by the
// tokens, clients and services of the file.
func (c *Config) Settings() []Setting {
	var all []Setting
	for _, s := range settings() {
		all = append(all, Setting{s.key, s.show(c), c.origins[s.key].String(), s.env(), s.doc})
	}
	for n, t := range c.HTTP.Tokens {
		all = append(all, Setting{fmt.Sprintf("http.tokens[%d]", n), t.Name + ": " + showScopes(t.Scopes), c.tokenOrigins[n].String(), "", listMeanings["http.tokens"]})
	}
	for n, k := range c.HTTP.Clients {
		all = append(all, Setting{fmt.Sprintf("http.clients[%d]", n), k.Name + ": " + showScopes(k.Scopes), c.clientOrigins[n].String(), "", listMeanings["http.clients"]})
	}
	for n, r := range c.Services {
		all = append(all, Setting{fmt.Sprintf("services[%d]", n), r.Service + "/" + r.ID, c.serviceOrigins[n].String(), "", listMeanings["services"]})
	}
	return all
}
