package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"disc/agent"
	"disc/config"
	"disc/config/safefile"
	"disc/discovery/devetcd"
)

type devOptions struct {
	etcdListen string
	demo       bool
}

func (a *app) devCommand() *cobra.Command {
	var o devOptions
	c := &cobra.Command{
		Use:   "dev",
		Short: "Run etcd and the sidecar in one process, to try disc",
		Long: `Run an embedded etcd and the sidecar in one process, to try disc or to develop with it.
It needs no setup. Settings are those of 'disc agent', with these exceptions: the data is
temporary unless --data-dir is given, drain_delay is 0s and log.level is warn unless they
are set, and etcd is the embedded one, whatever --endpoints and the other settings of etcd
say.`,
		Example: `  disc dev
  disc dev --demo
  disc dev --data-dir ./data --etcd-listen 127.0.0.1:12379`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.dev(cmd.Context(), cmd, o) },
	}
	config.AddFlags(c.Flags(), config.Agent)
	c.Flags().Lookup("data-dir").Usage = "directory for data that outlives a restart (default a temporary one) [DISC_DATA_DIR]"
	c.Flags().StringVar(&o.etcdListen, "etcd-listen", "127.0.0.1:2379", "address of the embedded etcd [DISC_ETCD_LISTEN]")
	c.Flags().BoolVar(&o.demo, "demo", false, "run and register three small services [DISC_DEMO]")
	return c
}

// applyEnvironment sets the flags that were not given from their variables.
func (o *devOptions) applyEnvironment(cmd *cobra.Command, env func(string) (string, bool)) error {
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

func (a *app) dev(ctx context.Context, cmd *cobra.Command, o devOptions) error {
	if err := o.applyEnvironment(cmd, a.io.Host.Env); err != nil {
		return err
	}
	dir, remove, err := a.devDir()
	if err != nil {
		return err
	}
	defer remove()
	etcd, err := devetcd.Start(ctx, devetcd.Options{Listen: o.etcdListen, Dir: a.persistentDir()})
	if err != nil {
		return errors.Join(fmt.Errorf("%w (--etcd-listen)", err), agent.CheckListen(a.config))
	}
	defer etcd.Close()
	load := func(ctx context.Context) (*config.Config, error) {
		return a.devSettings(ctx, cmd.Flags(), etcd.Endpoint(), dir)
	}
	cfg, err := load(ctx)
	if err != nil {
		return err
	}
	level := &slog.LevelVar{}
	level.Set(cfg.Log.Level)
	log := a.logger(ctx, level)
	reapOrphans(ctx)
	sidecar, err := agent.New(ctx, cfg, agent.Options{Logger: log, Version: programVersion().Version, Level: level})
	if err != nil {
		return err
	}
	stop := reloadOnHangup(ctx, log, sidecar, load)
	defer stop()
	return a.runDev(ctx, o, sidecar, etcd)
}

// persistentDir returns the configured data directory, or "" if it is the default.
func (a *app) persistentDir() string {
	if a.config.IsDefault("data_dir") {
		return ""
	}
	return a.config.DataDir
}

// devDir returns the data directory. remove deletes it if it is temporary.
func (a *app) devDir() (dir string, remove func(), err error) {
	if dir = a.persistentDir(); dir != "" {
		return dir, func() {}, a.checkDevDir(dir)
	}
	if dir, err = os.MkdirTemp("", "disc-dev-"); err != nil {
		return "", nil, fmt.Errorf("make a temporary data directory: %w", err)
	}
	return dir, func() { os.RemoveAll(dir) }, nil
}

// checkDevDir makes the data directory, and refuses one that another user could change: etcd
// follows whatever lies in it.
func (a *app) checkDevDir(path string) error {
	dir, err := safefile.MakeDir(path)
	if err == nil {
		if a.config.AllowSharedDirs {
			dir.Tolerate(func(err error) {
				a.infof("warning: others could change the data of etcd; allow_shared_dirs accepts it: %v", err)
			})
		}
		err = dir.Private()
		dir.Close()
	}
	if err != nil {
		return fmt.Errorf("data directory %s: %w (--data-dir)", path, agent.AdviseShared(err))
	}
	return nil
}

// devSettings returns the settings, with the embedded etcd in place of the configured one.
func (a *app) devSettings(ctx context.Context, flags *pflag.FlagSet, endpoint, dir string) (*config.Config, error) {
	cfg, err := config.Load(ctx, flags, a.io.Host)
	if err != nil {
		return nil, err
	}
	cfg.Etcd = config.Etcd{Endpoints: []string{endpoint}, DialTimeout: cfg.Etcd.DialTimeout}
	cfg.DataDir = filepath.Join(dir, "agent")
	changed := []string{"data_dir"}
	if cfg.IsDefault("drain_delay") {
		cfg.DrainDelay = 0 // there are no callers to drain, and somebody waits at the terminal
		changed = append(changed, "drain_delay")
	}
	if cfg.IsDefault("log.level") {
		cfg.Log.Level = devLogLevel(cfg)
		changed = append(changed, "log.level")
	}
	for _, s := range cfg.Settings() {
		if strings.HasPrefix(s.Key, "etcd.") && s.Key != "etcd.dial_timeout" {
			changed = append(changed, s.Key)
		}
	}
	cfg.SetOrigin("disc dev", changed...)
	return cfg, nil
}

// devLogLevel returns the log level; the default is warn, since more would hide the banner.
func devLogLevel(cfg *config.Config) slog.Level {
	if cfg.CLI.Verbose || !cfg.IsDefault("log.level") {
		return cfg.Log.Level
	}
	return slog.LevelWarn
}

// runDev runs the sidecar and, once it answers, the demo and the banner.
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
	group.Go(func() error { return a.announce(ctx, o, sidecar.Addr(), sidecar.DNSAddr(), etcd.Endpoint()) })
	if err := group.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
