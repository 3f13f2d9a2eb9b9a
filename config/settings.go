package config

import (
	"log/slog"
	"net/netip"
	"time"

	"disc/discovery"
)

// Group is a set of commands that share flags.
type Group int

// The groups of flags.
const (
	Global Group = iota + 1 // every command
	Agent                   // the commands that run an agent
)

// setting is one row of the table.
type setting struct {
	key       string // in the file; dots separate the sections
	flag      string // "": none
	shorthand string
	group     Group
	notInFile bool
	def       string // default, as written in a variable
	doc       string // help text of the flag; [Config] documents every setting
	binding
}

// settings returns the table. [Host] has the defaults of config, node and data_dir.
func settings() []setting {
	return []setting{
		{key: "config", flag: "config", group: Global, notInFile: true,
			doc:     "config file (default $XDG_CONFIG_HOME/disc/config.yaml or /etc/disc/config.yaml)",
			binding: scalar(func(c *Config) *string { return &c.File }, anyText)},
		{key: "namespace", flag: "namespace", shorthand: "n", group: Global, def: "default",
			doc:     "namespace in etcd; fleets in different namespaces are separate",
			binding: scalar(func(c *Config) *string { return &c.Namespace }, valid(discovery.ValidateNamespace))},
		{key: "cli.agent", flag: "agent", group: Global, def: "http://127.0.0.1:3472",
			doc:     "URL of this host's agent, or unix:///path",
			binding: scalar(func(c *Config) *string { return &c.CLI.Agent }, agentURL)},
		{key: "cli.cacert", flag: "agent-cacert", group: Global,
			doc:     "file of the CA certificates that verify the agent's certificate",
			binding: filePath(func(c *Config) *string { return &c.CLI.CACert })},
		{key: "cli.cert", flag: "agent-cert", group: Global,
			doc:     "file of the client certificate for the agent",
			binding: filePath(func(c *Config) *string { return &c.CLI.Cert })},
		{key: "cli.key", flag: "agent-key", group: Global,
			doc:     "file of the client certificate's key",
			binding: filePath(func(c *Config) *string { return &c.CLI.Key })},
		{key: "cli.token", flag: "token", group: Global, notInFile: true,
			doc:     "token for the agent; others see it in the list of processes: prefer the variable or --token-file",
			binding: secret(func(c *Config) *Secret { return &c.CLI.Token })},
		{key: "cli.token_file", flag: "token-file", group: Global,
			doc:     "file of the token for the agent (default http.token_file)",
			binding: filePath(func(c *Config) *string { return &c.CLI.TokenFile })},
		{key: "cli.send_token_in_clear", flag: "send-token-in-clear", group: Global, def: "false",
			doc:     "send the token to another host without TLS, where others on the network can read it",
			binding: boolean(func(c *Config) *bool { return &c.CLI.SendTokenInClear })},
		{key: "cli.output", flag: "output", shorthand: "o", group: Global, def: "table",
			doc:     "output format: table, wide, json, jsonl, yaml, name, addr, file_sd or template=TEMPLATE",
			binding: scalar(func(c *Config) *string { return &c.CLI.Output }, output)},
		{key: "cli.no_color", flag: "no-color", group: Global, notInFile: true, def: "false",
			doc:     "print no colours, even on a terminal",
			binding: boolean(func(c *Config) *bool { return &c.CLI.NoColor })},
		{key: "cli.verbose", flag: "verbose", shorthand: "v", group: Global, notInFile: true, def: "false",
			doc:     "print more on stderr, and set log.level to debug",
			binding: boolean(func(c *Config) *bool { return &c.CLI.Verbose })},
		{key: "log.level", def: "info",
			binding: level(func(c *Config) *slog.Level { return &c.Log.Level })},
		{key: "log.format", def: string(LogAuto),
			binding: scalar(func(c *Config) *LogFormat { return &c.Log.Format }, oneOf(LogAuto, LogText, LogJSON))},
		{key: "etcd.endpoints", flag: "endpoints", group: Global, def: "127.0.0.1:2379",
			doc:     "addresses of etcd, separated by commas",
			binding: list(func(c *Config) *[]string { return &c.Etcd.Endpoints }, endpoint)},
		{key: "etcd.cacert", flag: "cacert", group: Global,
			doc:     "file of the CA certificates that verify etcd's certificate",
			binding: filePath(func(c *Config) *string { return &c.Etcd.CACert })},
		{key: "etcd.cert", flag: "cert", group: Global,
			doc:     "file of the client certificate for etcd",
			binding: filePath(func(c *Config) *string { return &c.Etcd.Cert })},
		{key: "etcd.key", flag: "key", group: Global,
			doc:     "file of the client certificate's key",
			binding: filePath(func(c *Config) *string { return &c.Etcd.Key })},
		{key: "etcd.server_name",
			binding: scalar(func(c *Config) *string { return &c.Etcd.ServerName }, anyText)},
		{key: "etcd.user", flag: "user", group: Global,
			doc:     "etcd user, as name or name:password",
			binding: etcdUser()},
		{key: "etcd.password_file", flag: "password-file", group: Global,
			doc:     "file of the etcd user's password",
			binding: filePath(func(c *Config) *string { return &c.Etcd.PasswordFile })},
		{key: "etcd.dial_timeout", def: "5s",
			binding: scalar(func(c *Config) *time.Duration { return &c.Etcd.DialTimeout }, within(time.Millisecond, time.Hour))},
		{key: "etcd.quota", def: "0",
			binding: scalar(func(c *Config) *discovery.Bytes { return &c.Etcd.Quota }, discovery.ParseBytes)},
		{key: "node", flag: "node", group: Agent,
			doc:     "name of this node (default the host name)",
			binding: scalar(func(c *Config) *string { return &c.Node }, valid(discovery.ValidateNode))},
		{key: "zone", flag: "zone", group: Agent,
			doc:     "zone of this node, such as an availability zone",
			binding: scalar(func(c *Config) *string { return &c.Zone }, plainText)},
		{key: "advertise", flag: "advertise", group: Agent,
			doc:     "address at which others reach this host (default the source address of the route to etcd)",
			binding: scalar(func(c *Config) *string { return &c.Advertise }, advertised)},
		{key: "data_dir", flag: "data-dir", group: Agent,
			doc:     "directory for data that outlives a restart (default $XDG_STATE_HOME/disc, for root /var/lib/disc)",
			binding: scalar(func(c *Config) *string { return &c.DataDir }, nonEmpty)},
		{key: "allow_shared_dirs", def: "false",
			binding: boolean(func(c *Config) *bool { return &c.AllowSharedDirs })},
		{key: "session.ttl", def: "15s",
			binding: scalar(func(c *Config) *time.Duration { return &c.Session.TTL }, seconds(5*time.Second, time.Hour))},
		{key: "catalog.watch", flag: "watch", group: Agent, def: WatchAuto,
			doc:     "services to watch in etcd: all, lazy (those that are asked for), a list, or auto (all up to 300 nodes, lazy beyond)",
			binding: watch()},
		{key: "catalog.stale_after", def: "15s",
			binding: scalar(func(c *Config) *time.Duration { return &c.Catalog.StaleAfter }, within(time.Millisecond, unlimited))},
		{key: "catalog.panic", def: "0",
			binding: scalar(func(c *Config) *float64 { return &c.Catalog.Panic }, fraction)},
		{key: "kv.max_bytes", def: "256MiB",
			binding: scalar(func(c *Config) *discovery.Bytes { return &c.KV.MaxBytes }, discovery.ParseBytes)},
		{key: "kv.max_keys", def: "100000",
			binding: scalar(func(c *Config) *int64 { return &c.KV.MaxKeys }, count[int64](1<<40))},
		{key: "kv.max_writes_per_second", def: "1000",
			binding: scalar(func(c *Config) *int { return &c.KV.MaxWritesPerSecond }, count[int](1_000_000))},
		{key: "checks.networks",
			binding: networks(func(c *Config) *[]netip.Prefix { return &c.Checks.Networks }, probeNetwork)},
		{key: "http.listen", flag: "http", group: Agent, def: "127.0.0.1:3472",
			doc:     "address of the HTTP API",
			binding: scalar(func(c *Config) *string { return &c.HTTP.Listen }, listen)},
		{key: "http.socket",
			binding: scalar(func(c *Config) *string { return &c.HTTP.Socket }, socket)},
		{key: "http.allow_hosts",
			binding: list(func(c *Config) *[]string { return &c.HTTP.AllowHosts }, hostName)},
		{key: "http.token_file",
			binding: filePath(func(c *Config) *string { return &c.HTTP.TokenFile })},
		{key: "http.anonymous", def: anonymousAuto,
			binding: anonymous()},
		{key: "http.allow_plaintext", def: "false",
			binding: boolean(func(c *Config) *bool { return &c.HTTP.AllowPlaintext })},
		{key: "http.tls.cert",
			binding: filePath(func(c *Config) *string { return &c.HTTP.TLS.Cert })},
		{key: "http.tls.key",
			binding: filePath(func(c *Config) *string { return &c.HTTP.TLS.Key })},
		{key: "http.tls.client_ca",
			binding: filePath(func(c *Config) *string { return &c.HTTP.ClientCA })},
		{key: "dns.listen", flag: "dns", group: Agent, def: "127.0.0.1:3453",
			doc:     "address of the DNS server; empty for none",
			binding: scalar(func(c *Config) *string { return &c.DNS.Listen }, listen)},
		{key: "dns.domain", def: "disc.",
			binding: scalar(func(c *Config) *string { return &c.DNS.Domain }, domain)},
		{key: "dns.ttl", def: "1s",
			binding: scalar(func(c *Config) *time.Duration { return &c.DNS.TTL }, seconds(0, 24*time.Hour))},
		{key: "dns.prefer_zone", def: "false",
			binding: boolean(func(c *Config) *bool { return &c.DNS.PreferZone })},
		{key: "dns.networks",
			binding: networks(func(c *Config) *[]netip.Prefix { return &c.DNS.Networks }, network)},
		{key: "dns.rate_limit", def: "auto",
			binding: rateLimit(func(c *Config) *int { return &c.DNS.RateLimit })},
		{key: "grpc.listen", flag: "grpc", group: Agent,
			doc:     "loopback address of the gRPC server for Envoy; empty for none",
			binding: scalar(func(c *Config) *string { return &c.GRPC.Listen }, listen)},
		{key: "on_stop", def: string(Leave),
			binding: scalar(func(c *Config) *OnStop { return &c.OnStop }, oneOf(Leave, Keep))},
		{key: "drain_delay", def: "5s",
			binding: scalar(func(c *Config) *time.Duration { return &c.DrainDelay }, within(0, unlimited))},
		{key: "kill_timeout", def: "20s",
			binding: scalar(func(c *Config) *time.Duration { return &c.KillTimeout }, within(0, unlimited))},
	}
}
