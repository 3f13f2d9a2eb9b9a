package config

import (
	"log/slog"
	"strings"
	"time"

	"disc/discovery"
)

// Group is a set of flags that belong together.
type Group int

// The groups of flags.
const (
	Global Group = iota + 1 // of every command
	Agent                   // of the commands that run an agent
)

// setting is one row of the table.
type setting struct {
	key       string // in the file; dots part the sections
	flag      string // "": it has none
	shorthand string
	group     Group
	notInFile bool
	def       string // as it would be written in the environment
	doc       string
	binding
}

// settings is the table. The defaults of config, node and data_dir depend on the host:
// see [Host].
func settings() []setting {
	return append(append(generalSettings(), etcdSettings()...), agentSettings()...)
}

func generalSettings() []setting {
	return []setting{
		{key: "config", flag: "config", group: Global, notInFile: true,
			doc:     "config file (default $XDG_CONFIG_HOME/disc/config.yaml or /etc/disc/config.yaml)",
			binding: one(func(c *Config) *string { return &c.File }, anyText)},
		{key: "namespace", flag: "namespace", shorthand: "n", group: Global, def: "default",
			doc:     "the fleet inside etcd",
			binding: one(func(c *Config) *string { return &c.Namespace }, valid(discovery.ValidateNamespace))},
		{key: "cli.agent", flag: "agent", group: Global, def: "http://127.0.0.1:3472",
			doc:     "this host's agent: a URL, or unix:///path",
			binding: one(func(c *Config) *string { return &c.CLI.Agent }, agentURL)},
		{key: "cli.cacert", flag: "agent-cacert", group: Global,
			doc:     "file of the CA certificates that the agent's certificate is checked against",
			binding: one(func(c *Config) *string { return &c.CLI.CACert }, anyText)},
		{key: "cli.output", flag: "output", shorthand: "o", group: Global, def: "table",
			doc:     "table, wide, json, jsonl, yaml, name, addr, file_sd or template=TEMPLATE",
			binding: one(func(c *Config) *string { return &c.CLI.Output }, output)},
		{key: "cli.no_color", flag: "no-color", group: Global, notInFile: true, def: "false",
			doc:     "no colours, even on a terminal",
			binding: flag(func(c *Config) *bool { return &c.CLI.NoColor })},
		{key: "cli.verbose", flag: "verbose", shorthand: "v", group: Global, notInFile: true, def: "false",
			doc:     "say more on stderr; sets log.level to debug",
			binding: flag(func(c *Config) *bool { return &c.CLI.Verbose })},
		{key: "log.level", def: "info",
			doc:     "debug, info, warn or error",
			binding: one(func(c *Config) *slog.Level { return &c.Log.Level }, logLevel).shown(strings.ToLower)},
		{key: "log.format", def: string(LogAuto),
			doc:     "auto, text or json; auto is text on a terminal",
			binding: one(func(c *Config) *LogFormat { return &c.Log.Format }, oneOf(LogAuto, LogText, LogJSON))},
	}
}

func etcdSettings() []setting {
	return []setting{
		{key: "etcd.endpoints", flag: "endpoints", group: Global, def: "127.0.0.1:2379",
			doc:     "etcd's addresses, separated by commas",
			binding: many(func(c *Config) *[]string { return &c.Etcd.Endpoints }, endpoint)},
		{key: "etcd.cacert", flag: "cacert", group: Global,
			doc:     "file of the CA certificates that etcd's certificate is checked against",
			binding: one(func(c *Config) *string { return &c.Etcd.CACert }, anyText)},
		{key: "etcd.cert", flag: "cert", group: Global,
			doc:     "file of the client certificate for etcd",
			binding: one(func(c *Config) *string { return &c.Etcd.Cert }, anyText)},
		{key: "etcd.key", flag: "key", group: Global,
			doc:     "file of the client certificate's key",
			binding: one(func(c *Config) *string { return &c.Etcd.Key }, anyText)},
		{key: "etcd.server_name",
			doc:     "name that etcd's certificate must be for, if not the endpoint's",
			binding: one(func(c *Config) *string { return &c.Etcd.ServerName }, anyText)},
		{key: "etcd.user", flag: "user", group: Global,
			doc:     "etcd user, as name or name:password",
			binding: etcdUser()},
		{key: "etcd.password_file", flag: "password-file", group: Global,
			doc:     "file of the etcd user's password",
			binding: one(func(c *Config) *string { return &c.Etcd.PasswordFile }, anyText)},
		{key: "etcd.dial_timeout", def: "5s",
			doc:     "time limit of one connection attempt to etcd",
			binding: one(func(c *Config) *time.Duration { return &c.Etcd.DialTimeout }, within(time.Millisecond, time.Hour))},
	}
}

func agentSettings() []setting {
	return []setting{
		{key: "node", flag: "node", group: Agent,
			doc:     "name of this node (default the host name)",
			binding: one(func(c *Config) *string { return &c.Node }, valid(discovery.ValidateNode))},
		{key: "zone", flag: "zone", group: Agent,
			doc:     "where this node is, such as an availability zone",
			binding: one(func(c *Config) *string { return &c.Zone }, plainText)},
		{key: "advertise", flag: "advertise", group: Agent,
			doc:     "address that others reach this host by (default the source address of the route to etcd)",
			binding: one(func(c *Config) *string { return &c.Advertise }, advertised)},
		{key: "data_dir", flag: "data-dir", group: Agent,
			doc:     "directory of what outlives a restart (default $XDG_STATE_HOME/disc, /var/lib/disc for root)",
			binding: one(func(c *Config) *string { return &c.DataDir }, given)},
		{key: "session.ttl", def: "15s",
			doc:     "life of the agent's etcd lease without a keepalive, 5s to 1h",
			binding: one(func(c *Config) *time.Duration { return &c.Session.TTL }, seconds(5*time.Second, time.Hour))},
		{key: "catalog.watch", flag: "watch", group: Agent, def: WatchAuto,
			doc:     "what is watched in etcd: all, lazy (the services that are asked for), a list of services, or auto: all up to 300 nodes, lazy beyond",
			binding: watch()},
		{key: "catalog.stale_after", def: "15s",
			doc:     "age from which a view is stale",
			binding: one(func(c *Config) *time.Duration { return &c.Catalog.StaleAfter }, within(time.Millisecond, forever))},
		{key: "catalog.panic", def: "0",
			doc:     "healthy part of a service, 0 to 1, below which all of it is answered",
			binding: one(func(c *Config) *float64 { return &c.Catalog.Panic }, part)},
		{key: "http.listen", flag: "http", group: Agent, def: "127.0.0.1:3472",
			doc:     "address of the HTTP API",
			binding: one(func(c *Config) *string { return &c.HTTP.Listen }, listen)},
		{key: "http.socket",
			doc:     "path of a Unix socket of the HTTP API",
			binding: one(func(c *Config) *string { return &c.HTTP.Socket }, socket)},
		{key: "http.allow_hosts",
			doc:     "Host headers that are accepted besides loopback's",
			binding: many(func(c *Config) *[]string { return &c.HTTP.AllowHosts }, hostName)},
		{key: "http.token_file",
			doc:     "file of the bearer token that writes over HTTP need",
			binding: one(func(c *Config) *string { return &c.HTTP.TokenFile }, anyText)},
		{key: "http.tls.cert",
			doc:     "file of the HTTP API's certificate",
			binding: one(func(c *Config) *string { return &c.HTTP.TLS.Cert }, anyText)},
		{key: "http.tls.key",
			doc:     "file of the HTTP API's key",
			binding: one(func(c *Config) *string { return &c.HTTP.TLS.Key }, anyText)},
		{key: "dns.listen", flag: "dns", group: Agent, def: "127.0.0.1:3453",
			doc:     "address of the DNS server; empty for none",
			binding: one(func(c *Config) *string { return &c.DNS.Listen }, listen)},
		{key: "dns.domain", def: "disc.",
			doc:     "domain that is answered",
			binding: one(func(c *Config) *string { return &c.DNS.Domain }, domain)},
		{key: "dns.ttl", def: "1s",
			doc:     "time that DNS answers may be cached, 0s to 24h",
			binding: one(func(c *Config) *time.Duration { return &c.DNS.TTL }, seconds(0, 24*time.Hour))},
		{key: "dns.prefer_zone", def: "false",
			doc:     "answer DNS with this node's zone first",
			binding: flag(func(c *Config) *bool { return &c.DNS.PreferZone })},
		{key: "grpc.listen", flag: "grpc", group: Agent,
			doc:     "loopback address of the gRPC server for Envoy; empty for none",
			binding: one(func(c *Config) *string { return &c.GRPC.Listen }, listen)},
		{key: "on_stop", def: string(Leave),
			doc:     "what becomes of the records when the agent stops: leave or keep",
			binding: one(func(c *Config) *OnStop { return &c.OnStop }, oneOf(Leave, Keep))},
		{key: "drain_delay", def: "5s",
			doc:     "time between leaving and stopping",
			binding: one(func(c *Config) *time.Duration { return &c.DrainDelay }, within(0, forever))},
		{key: "kill_timeout", def: "20s",
			doc:     "time between a child's TERM and KILL",
			binding: one(func(c *Config) *time.Duration { return &c.KillTimeout }, within(0, forever))},
	}
}
