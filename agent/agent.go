// Package agent assembles the agent of a host: the session, the registry and the catalog on
// etcd, the health checks, and the listeners that answer this host.
//
//	a, err := agent.New(ctx, cfg, agent.Options{Logger: log, Version: version})
//	err = a.Run(ctx) // until ctx ends; then it deregisters, drains and stops
package agent

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/agent/access"
	"disc/agent/check"
	"disc/agent/dns"
	"disc/agent/envoy"
	"disc/agent/httpapi"
	"disc/agent/ui"
	"disc/config"
	"disc/discovery"
	"disc/discovery/catalog"
	"disc/discovery/changelog"
	"disc/discovery/claim"
	"disc/discovery/entry"
	"disc/discovery/etcd"
	"disc/discovery/kv"
	"disc/discovery/lease"
	"disc/discovery/level"
	"disc/discovery/life"
	"disc/discovery/limit"
	"disc/discovery/lock"
	"disc/discovery/quota"
	"disc/discovery/registry"
	"disc/discovery/telemetry"
)

// Options are the options of an agent besides its settings. The zero value is useful.
type Options struct {
	Logger  *slog.Logger // default: discards
	Version string       // of the program; default: "dev"

	// Level is that of Logger, which a reload sets to log.level; nil: it stays as it is.
	Level *slog.LevelVar
}

// Agent is an agent. Make it with [New] and run it once.
type Agent struct {
	config  *config.Config                // at the start
	current atomic.Pointer[config.Config] // after reloads
	options Options
	log     *slog.Logger
	metrics *prometheus.Registry

	dir       *dataDir
	node      discovery.Node
	runID     string // random, made at each start
	client    *clientv3.Client
	session   *lease.Session
	life      *life.Life
	level     *level.Level
	catalog   *catalog.Catalog
	changes   *changelog.Log // nil: none are kept
	registry  *registry.Registry
	limits    limits
	registrar *registrar
	locks     *lock.Manager
	claims    *claim.Claims
	api       *httpapi.API
	dns       *dns.Responder
	envoy     *envoy.Server
	listeners []net.Listener
	dnsServer *dns.Server  // nil: no DNS
	grpc      net.Listener // nil: no gRPC

	kv           *kv.Store
	watchdog     *watchdog
	certificates *certificates

	access  access.Authenticator // who may do what over HTTP
	leaving atomic.Bool

	leaveTimeout time.Duration
}

// New returns an agent. It locks the data directory and opens the listeners, so that their
// errors show at once, and does not wait for etcd. Close an agent that is not run.
func New(ctx context.Context, cfg *config.Config, o Options) (_ *Agent, err error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Version == "" {
		o.Version = "dev"
	}
	a := &Agent{config: cfg, options: o, log: o.Logger, metrics: prometheus.NewRegistry(), runID: strings.ToLower(rand.Text()), leaveTimeout: leaveTimeout}
	a.current.Store(cfg)
	a.log.Info("agent is starting", "version", o.Version, "config", cfg.File)
	if err := cfg.CheckValues(); err != nil {
		a.log.Warn("the config file may be cut off; its keys without a value count as absent, and a reload refuses them", "error", err)
	}
	defer func() {
		if err != nil {
			a.Close()
		}
	}()
	policy, err := cfg.HTTP.Policy(ctx)
	if err != nil {
		return nil, err
	}
	a.access.Set(policy)
	if a.dir, err = openDataDir(cfg.DataDir, cfg.AllowSharedDirs, a.log); err != nil {
		return nil, err
	}
	if a.client, err = etcd.Dial(ctx, etcd.Config{Endpoints: cfg.Etcd.Endpoints, Timeout: cfg.Etcd.DialTimeout,
		TLS: cfg.Etcd.TLSSource(), Credentials: cfg.Etcd.CredentialSource(), Logger: a.log}); err != nil {
		return nil, err
	}
	if err := a.buildComponents(); err != nil {
		return nil, err
	}
	if err := a.openListeners(ctx); err != nil {
		return nil, err
	}
	return a, nil
}

// buildComponents makes the components, each after those that it needs.
func (a *Agent) buildComponents() error {
	c := a.config
	address, err := a.advertiseAddress(context.Background())
	if err != nil {
		return err
	}
	a.node = discovery.Node{Node: c.Node, Agent: a.dir.owner(), Version: a.options.Version, Address: address, Zone: c.Zone, Started: time.Now().UTC(), Level: discovery.OwnLevel}
	keys := discovery.NewKeys(c.Namespace)
	if a.session, err = lease.New(a.client, c.Session.TTL, lease.Options{Logger: a.log, Registerer: a.metrics}); err != nil {
		return err
	}
	a.life = life.New(a.client, keys, life.Options{Session: a.session, Logger: a.log, First: level.First(keys, discovery.OwnLevel)})
	a.level = level.New(a.client, keys, level.Options{Changed: a.life.Count, Logger: a.log})
	a.changes = changelog.New(int64(c.Catalog.HistoryBytes))
	if a.catalog, err = catalog.New(a.client, keys, catalog.Options{
		Watch: catalog.WatchMode(c.Catalog.Watch), Services: c.Catalog.Services, Node: c.Node,
		StaleAfter: c.Catalog.StaleAfter, Life: a.life, LastGood: a.dir, Changes: a.changes, Logger: a.log,
		MassLoss: &catalog.MassLossGuard{TTL: c.Session.TTL, Probe: probe}, Registerer: a.metrics}); err != nil {
		return err
	}
	if last, err := a.catalog.View(); err == nil && last.Snapshot.Epoch() != "" { // the last good one
		a.life.NotFirst()
	}
	if a.registry, err = registry.New(a.client, keys, a.session, a.catalog,
		registry.Identity{Owner: a.node.Agent, RunID: a.runID, Node: a.node},
		registry.Options{HideOutput: !c.Checks.PublishOutput, Life: a.life, Logger: a.log, Registerer: a.metrics}); err != nil {
		return err
	}
	space, rate := quota.NewSpace(a.client, c.Etcd.Quota), quota.NewRate(c.KV.MaxWritesPerSecond)
	if a.locks, err = lock.New(a.client, keys, a.session, a.life, lock.Options{Node: c.Node, Space: space, Rate: rate, Logger: a.log, Registerer: a.metrics}); err != nil {
		return err
	}
	if a.limits.Limits, err = limit.New(a.client, keys, limit.Options{ProgressInterval: a.catalog.ProgressInterval, Life: a.life, Space: space, Logger: a.log, Registerer: a.metrics}); err != nil {
		return err
	}
	a.claims = claim.New(a.client, keys, a.locks, a.catalog, claim.Options{Node: c.Node, ProgressInterval: a.catalog.ProgressInterval, Logger: a.log})
	scheduler, err := check.NewScheduler(check.Options{Advertised: address, Networks: c.Checks.Networks, Logger: a.log, Registerer: a.metrics})
	if err != nil {
		return err
	}
	a.registrar = newRegistrar(a.registry, scheduler, a.dir, address, c.Zone, c.Etcd.Endpoints, a.log)
	a.registrar.saved.journals = func() bool { return a.level.Allows(discovery.LevelJournal) }
	if err := a.registrar.saved.register(a.metrics); err != nil {
		return err
	}
	a.registrar.load(c.Services)
	if a.kv, err = kv.New(a.client, keys, kv.Options{MaxBytes: c.KV.MaxBytes, MaxKeys: c.KV.MaxKeys, Space: space, Rate: rate, StaleAfter: c.Catalog.StaleAfter, ProgressInterval: a.catalog.ProgressInterval, Life: a.life, Logger: a.log, Registerer: a.metrics}); err != nil {
		return err
	}
	if a.watchdog, err = newWatchdog(a.metrics, a.log); err != nil {
		return err
	}
	if a.certificates, err = newCertificates(c, a.metrics, a.log); err != nil {
		return err
	}
	if err := a.registerMetrics(); err != nil {
		return err
	}
	return a.buildServers()
}

// buildServers makes what answers DNS, Envoy and HTTP from the components.
func (a *Agent) buildServers() (err error) {
	c := a.config
	editor := entry.Editor{Client: a.client, Keys: discovery.NewKeys(c.Namespace)}
	if a.dns, err = dns.New(a.catalog, dnsOptions(c, a.node.Address, a.metrics)); err != nil {
		return err
	}
	if a.envoy, err = envoy.New(a.catalog, envoy.Options{Limits: a.limits, Explain: a.explain,
		Domain: c.DNS.Domain, Connections: connectionLimit(envoy.MaxConnections, 8), Registerer: a.metrics, Logger: a.log,
	}); err != nil {
		return err
	}
	a.api, err = httpapi.New(httpapi.Backends{
		Catalog: a.catalog, Registrar: a.registrar, Overrides: overrides{editor}, Agent: a,
		DNS: a.dns, Envoy: a.envoy, KV: kvBackend{a.kv}, Limits: a.limits, Locks: locks{a.locks}, Claims: claims{a.claims, c.Zone}, Quarantines: quarantines{a.life},
		Suspects: suspects{a.catalog, editor}, History: history{a.changes},
	}, httpapi.Options{
		Domain: c.DNS.Domain, Zone: c.Zone, Panic: c.Catalog.Panic, AllowHosts: c.HTTP.AllowHosts, Access: &a.access, Explain: a.explain,
		Connections: connectionLimit(httpapi.MaxConnections, 4), Page: ui.New(),
		Registerer: a.metrics, Gatherer: a.metrics, Logger: a.log,
	})
	return err
}

// explain turns an error of a call to etcd into one that an operator can act on.
func (a *Agent) explain(err error) error { return etcd.Explain(a.config.Etcd.Endpoints, err) }

// dnsOptions returns the options of DNS. Its NS record has the address that DNS listens on or,
// if it listens on all addresses, the advertised one.
func dnsOptions(c *config.Config, advertised string, metrics prometheus.Registerer) dns.Options {
	o := dns.Options{Domain: c.DNS.Domain, TTL: c.DNS.TTL, Panic: c.Catalog.Panic, Registerer: metrics}
	if c.DNS.PreferZone {
		o.PreferZone = c.Zone
	}
	listen, err := netip.ParseAddrPort(c.DNS.Listen)
	o.Nameserver = listen.Addr()
	if err != nil || o.Nameserver.IsUnspecified() {
		o.Nameserver, _ = netip.ParseAddr(advertised) // a host name: DNS keeps its default
	}
	return o
}

// registerMetrics registers the metrics that belong to no component: those of the process,
// the age of the view, the feature level, and the build.
func (a *Agent) registerMetrics() error {
	return telemetry.Register(a.metrics,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "disc_catalog_age_seconds", Help: "Seconds since etcd last confirmed the view; -1 while there is none."},
			func() float64 {
				view, err := a.catalog.View()
				if err != nil {
					return -1
				}
				return view.Age.Seconds()
			}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "disc_history_bytes", Help: "Bytes that the changes of the history take."},
			func() float64 {
				bytes, _ := a.changes.Size()
				return float64(bytes)
			}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "disc_history_changes", Help: "Changes in the history."},
			func() float64 {
				_, entries := a.changes.Size()
				return float64(entries)
			}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "disc_feature_level", Help: "The feature level of the namespace; 0 while it is not known."},
			func() float64 { return float64(a.level.State().Record.Level) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "disc_feature_level_own", Help: "The feature level that this agent can read; below that of the namespace it is to be upgraded."},
			func() float64 { return float64(a.level.State().Own) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "disc_feature_level_behind", Help: "Agents that cannot read the newest feature level and were seen in the last day."},
			func() float64 {
				r := a.level.State().Record
				return float64(len(r.Behind) + r.More)
			}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "disc_build_info", Help: "1, with the version of the agent.",
			ConstLabels: prometheus.Labels{"version": a.options.Version}},
			func() float64 { return 1 }),
	)
}

// Addr returns the address that the HTTP API listens on: the TCP address if there is one,
// else the Unix socket.
func (a *Agent) Addr() net.Addr { return a.listeners[0].Addr() }

// DNSAddr returns the address that DNS listens on, over UDP and TCP; the zero AddrPort if it
// does not listen.
func (a *Agent) DNSAddr() netip.AddrPort {
	if a.dnsServer == nil {
		return netip.AddrPort{}
	}
	return a.dnsServer.Addr()
}

// GRPCAddr returns the address that gRPC listens on; "" if it does not listen.
func (a *Agent) GRPCAddr() string {
	if a.grpc == nil {
		return ""
	}
	return a.grpc.Addr().String()
}

// addresses returns the addresses that the agent listens on, for the log: none for what is off.
func (a *Agent) addresses() []any {
	all := []any{"http", a.Addr().String()}
	if a.dnsServer != nil {
		all = append(all, "dns", a.DNSAddr().String())
	}
	if a.grpc != nil {
		all = append(all, "grpc", a.GRPCAddr())
	}
	return all
}

// Close closes the listeners, the data directory and the client of etcd. Run does so at its
// end.
func (a *Agent) Close() error {
	var errs []error
	for _, l := range a.listeners {
		errs = append(errs, l.Close())
	}
	if a.dnsServer != nil {
		errs = append(errs, a.dnsServer.Close())
	}
	if a.grpc != nil {
		errs = append(errs, a.grpc.Close())
	}
	if a.client != nil {
		errs = append(errs, a.client.Close())
	}
	ended := a.registrar == nil || a.registrar.saved.close()
	if a.dir != nil && ended { // or the lock keeps others out while the disk hangs
		a.dir.close()
	}
	return errors.Join(errs...)
}

// Reload applies the services, tokens, clients, scopes and log level of new settings. Other settings
// that have changed need a restart, and a warning in the log names each. Reload fails, and changes
// nothing, if the config file looks empty or cut off ([config.Config.CheckReload]), if the file of
// http.token_file cannot be read, or if the agent listens beyond loopback and every host could
// write.
func (a *Agent) Reload(ctx context.Context, cfg *config.Config) error {
	running := a.config.HTTP // until a restart
	running.Tokens, running.Clients, running.TokenFile = cfg.HTTP.Tokens, cfg.HTTP.Clients, cfg.HTTP.TokenFile
	running.Anonymous, running.AnonymousSet = cfg.HTTP.Anonymous, cfg.HTTP.AnonymousSet
	if err := running.CheckListen(); err != nil {
		return fmt.Errorf("reload: http.listen: %w", err)
	}
	if err := cfg.CheckReload(a.current.Load()); err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	policy, err := cfg.HTTP.Policy(ctx)
	if err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	a.access.Set(policy)
	level := cmp.Or(a.options.Level, &slog.LevelVar{})
	level.Set(min(level.Level(), cfg.Log.Level)) // a quieter one must not hide what follows
	for _, key := range restartNeeded(a.current.Load(), cfg) {
		a.log.Warn("setting has changed; restart the agent to apply it", "setting", key)
	}
	a.registrar.reload(cfg.Services)
	a.log.Info("settings reloaded", "services", len(cfg.Services))
	level.Set(cfg.Log.Level)
	a.current.Store(cfg)
	return nil
}

// restartNeeded returns the keys of the settings that differ and that a reload does not apply.
func restartNeeded(before, after *config.Config) []string {
	old := map[string]string{}
	for _, s := range before.Settings() {
		old[s.Key] = s.Value
	}
	var keys []string
	for _, s := range after.Settings() {
		if v, ok := old[s.Key]; ok && v != s.Value && !config.Reloads(s.Key) {
			keys = append(keys, s.Key)
		}
	}
	return keys
}
