package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"disc/agent"
	"disc/agent/api"
	"disc/config"
	"disc/discovery"
	"disc/discovery/devetcd"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

type devOptions struct {
	etcdListen string
	demo       bool
}

func (a *app) devCommand() *cobra.Command {
	var o devOptions
	c := &cobra.Command{
		Use:   "dev",
		Short: "Run etcd and the sidecar in one process, for a try",
		Long: `Run an embedded etcd and the sidecar in one process, for a try or for development.
It needs no set-up, and keeps nothing unless --data-dir is given. --endpoints is
ignored: it brings its own etcd.`,
		Example: `  disc dev
  disc dev --demo
  disc dev --data-dir ./data --etcd-listen 127.0.0.1:12379`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.dev(cmd.Context(), cmd, o) },
	}
	config.AddFlags(c.Flags(), config.Agent)
	c.Flags().StringVar(&o.etcdListen, "etcd-listen", "127.0.0.1:2379", "where the embedded etcd listens [DISC_ETCD_LISTEN]")
	c.Flags().BoolVar(&o.demo, "demo", false, "register three small services [DISC_DEMO]")
	return c
}

// fromEnvironment takes over the variables of the flags that were not given.
func (o *devOptions) fromEnvironment(cmd *cobra.Command, env func(string) (string, bool)) error {
	for _, name := range []string{"etcd-listen", "demo"} {
		variable := "DISC_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		if v, ok := env(variable); ok && v != "" && !cmd.Flags().Changed(name) {
			if err := cmd.Flags().Set(name, v); err != nil {
				return usage(fmt.Errorf("env %s: %w", variable, err))
			}
		}
	}
	var err error
	if o.etcdListen, err = cmd.Flags().GetString("etcd-listen"); err != nil {
		return err
	}
	o.demo, err = cmd.Flags().GetBool("demo")
	return err
}

func (a *app) dev(ctx context.Context, cmd *cobra.Command, o devOptions) (err error) {
	if err := o.fromEnvironment(cmd, a.io.Host.Env); err != nil {
		return err
	}
	keep := a.origin("data_dir") != "default"
	dir := a.config.DataDir
	if !keep {
		if dir, err = os.MkdirTemp("", "disc-dev-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	etcdOptions := devetcd.Options{Listen: o.etcdListen}
	if keep {
		etcdOptions.Dir = dir
	}
	etcd, err := devetcd.Start(ctx, etcdOptions)
	if err != nil {
		return fmt.Errorf("%w (--etcd-listen)", err)
	}
	defer etcd.Close()
	load := func() (*config.Config, error) {
		cfg, err := config.Load(cmd.Flags(), a.io.host())
		if err != nil {
			return nil, err
		}
		cfg.Etcd = config.Etcd{Endpoints: []string{etcd.Endpoint()}, DialTimeout: cfg.Etcd.DialTimeout}
		cfg.DataDir = filepath.Join(dir, "agent")
		if a.origin("drain_delay") == "default" {
			cfg.DrainDelay = 0 // nobody depends on it, and somebody waits at the terminal
		}
		return cfg, nil
	}
	cfg, err := load()
	if err != nil {
		return err
	}
	level := max(cfg.Log.Level, slog.LevelWarn) // the log would hide what to try
	if cfg.CLI.Verbose || a.origin("log.level") != "default" {
		level = cfg.Log.Level
	}
	log := a.logger(level)
	sidecar, err := agent.New(cfg, agent.Options{Logger: log, Version: programVersion().Version})
	if err != nil {
		return err
	}
	stop := reloadOnHangup(log, sidecar, load)
	defer stop()
	return a.runDev(ctx, o, sidecar, etcd)
}

// origin returns where a setting came from.
func (a *app) origin(key string) string {
	for _, s := range a.config.Settings() {
		if s.Key == key {
			return s.Origin
		}
	}
	return ""
}

// runDev runs the sidecar, tells what to try once it answers, and runs the demo.
func (a *app) runDev(ctx context.Context, o devOptions, sidecar *agent.Agent, etcd *devetcd.Server) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := sidecar.Run(ctx); err != nil {
			return err
		}
		return context.Canceled // ends the rest
	})
	group.Go(func() error {
		select {
		case err := <-etcd.Err():
			return fmt.Errorf("embedded etcd: %w", err)
		case <-ctx.Done():
			return nil
		}
	})
	group.Go(func() error { return a.present(ctx, o, sidecar, etcd.Endpoint()) })
	if err := group.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// present tells what to try, and runs the demo's services.
func (a *app) present(ctx context.Context, o devOptions, sidecar *agent.Agent, endpoint string) error {
	url := agentURL(sidecar)
	client, err := api.NewClient(url)
	if err != nil {
		return err
	}
	defer client.CloseIdle()
	var services []*demoService
	if o.demo {
		if services, err = startDemo(ctx); err != nil {
			return err
		}
		defer stopDemo(services)
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, s := range services {
		group.Go(func() error { return s.hold(ctx, client) })
	}
	group.Go(func() error {
		if !answers(ctx, client, services) {
			return nil
		}
		_, err := fmt.Fprint(a.io.Out, welcome(url, endpoint, services))
		return err
	})
	return group.Wait()
}

// answers waits until the agent has a view and the services are registered. It
// reports false when ctx ends before.
func answers(ctx context.Context, client *api.Client, services []*demoService) bool {
	for _, s := range services {
		select {
		case <-s.held:
		case <-ctx.Done():
			return false
		}
	}
	var retry discovery.Backoff
	for {
		if _, _, err := client.Services(ctx, api.Wait{}); err == nil {
			return true
		}
		if retry.Wait(ctx) != nil {
			return false
		}
	}
}

// agentURL is where the sidecar's API is, as --agent takes it.
func agentURL(sidecar *agent.Agent) string {
	if at := sidecar.Addr(); at.Network() == "unix" {
		return "unix://" + at.String()
	}
	return "http://" + sidecar.Addr().String()
}

// welcome tells what to try next, in commands that can be copied.
func welcome(url, endpoint string, services []*demoService) string {
	var b strings.Builder
	fmt.Fprintf(&b, "disc is running: agent at %s, etcd at %s. Ctrl-C ends it.\n", url, endpoint)
	var flags string
	if endpoint != "127.0.0.1:2379" {
		flags += " --endpoints " + endpoint
	}
	ask := ""
	if url != "http://"+api.DefaultAddress {
		ask = " --agent " + url
	}
	b.WriteString("\nTry, in another terminal:\n")
	if len(services) == 0 {
		fmt.Fprintf(&b, "  disc set web/web-1 127.0.0.1:8080%s\n", flags)
	}
	fmt.Fprintf(&b, "  disc list%s\n", flags)
	fmt.Fprintf(&b, "  disc lookup web%s\n", ask)
	if strings.HasPrefix(url, "unix://") {
		fmt.Fprintf(&b, "  curl --unix-socket %s http://localhost/v1/lookup/web\n", strings.TrimPrefix(url, "unix://"))
	} else {
		fmt.Fprintf(&b, "  curl %s/v1/lookup/web\n", strings.TrimPrefix(url, "http://"))
	}
	if len(services) > 0 {
		b.WriteString("\nKill one, and look it up again:\n")
		for _, s := range services {
			fmt.Fprintf(&b, "  kill %-7d # %s/%s at %s:%d\n", s.process.Process.Pid, s.service, s.id, "127.0.0.1", s.port)
		}
	}
	return b.String()
}
