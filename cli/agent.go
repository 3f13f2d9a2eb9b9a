package cli

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"disc/agent"
	"disc/agent/reaper"
	"disc/config"
)

func (a *app) agentCommand() *cobra.Command {
	c := &cobra.Command{
		Use:        "agent",
		SuggestFor: []string{"server", "serve", "start", "daemon", "sidecar"},
		Short:      "Run the sidecar",
		Long: `Run the sidecar agent. It registers the services of the config file and of the HTTP API,
keeps their leases alive, checks their health, and answers lookups on this host from
memory.

SIGHUP reloads the services, tokens, clients, certificates and log.level of the config
file; a file that is invalid, empty or cut off changes nothing. At SIGTERM the agent
deregisters its services, answers lookups for the drain delay, and stops. A second SIGTERM
stops it at once.`,
		Example: `  disc agent
  disc agent --endpoints 10.0.0.1:2379,10.0.0.2:2379 --zone a
  disc agent --config /etc/disc/config.yaml`,
		Args:        cobra.NoArgs,
		Annotations: map[string]string{logsVariables: "true"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.runAgent(cmd.Context(), func(ctx context.Context) (*config.Config, error) { return config.Load(ctx, cmd.Flags(), a.io.Host) })
		},
	}
	config.AddFlags(c.Flags(), config.Agent)
	return c
}

// loadFunc loads the settings.
type loadFunc func(context.Context) (*config.Config, error)

func (a *app) runAgent(ctx context.Context, load loadFunc) error {
	reapOrphans(ctx)
	level := &slog.LevelVar{}
	level.Set(a.config.Log.Level)
	log := a.logger(ctx, level)
	for _, v := range a.io.Host.UnknownVariables(otherVariables...) {
		log.Warn("variable is unknown and has no effect", "variable", v.Name, "nearest", v.Nearest)
	}
	sidecar, err := agent.New(ctx, a.config, agent.Options{Logger: log, Version: programVersion().Version, Level: level})
	if err != nil {
		return err
	}
	stop := reloadOnHangup(ctx, log, sidecar, load)
	defer stop()
	return sidecar.Run(ctx)
}

// reapOrphans reaps the orphans that come to this process as the first of a container, until ctx ends.
func reapOrphans(ctx context.Context) {
	if os.Getpid() == 1 {
		go reaper.Run(ctx)
	}
}

// logger returns the log of an agent that runs until ctx ends. It goes to stderr. A warning that
// repeats is said once a minute.
func (a *app) logger(ctx context.Context, level slog.Leveler) *slog.Logger {
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: durationAsText}
	if f := a.config.Log.Format; f == config.LogText || f == config.LogAuto && a.io.Terminal {
		return a.holdingBack(ctx.Done(), slog.NewTextHandler(a.io.Err, o))
	}
	return a.holdingBack(ctx.Done(), slog.NewJSONHandler(a.io.Err, o))
}

// holdingBack returns a log that holds back warnings that repeat, until stopped is closed or
// [app.sayHeldBack] is called.
func (a *app) holdingBack(stopped <-chan struct{}, h slog.Handler) *slog.Logger {
	handler := newRepeatHandler(stopped, h)
	a.said = append(a.said, handler.said)
	return slog.New(handler)
}

// sayHeldBack says the warnings that are held back. Those that come afterwards are said at once.
func (a *app) sayHeldBack() {
	for _, said := range a.said {
		said.close()
	}
}

// durationAsText writes durations as "5s", in JSON logs too.
func durationAsText(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// warnings returns a log of warnings that goes to stderr; with -v it has every level.
func (a *app) warnings() *slog.Logger {
	level := slog.LevelWarn
	if a.config.CLI.Verbose {
		level = slog.LevelDebug
	}
	return a.holdingBack(nil, slog.NewTextHandler(a.io.Err, &slog.HandlerOptions{Level: level}))
}

// reloadOnHangup reloads the settings at each SIGHUP, until stop is called. A reload that is
// under way ends with ctx.
func reloadOnHangup(ctx context.Context, log *slog.Logger, sidecar *agent.Agent, load loadFunc) (stop func()) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range hangup {
			cfg, err := load(ctx)
			if err == nil {
				err = sidecar.Reload(ctx, cfg)
			}
			if err != nil {
				log.Error("settings not reloaded; the old ones stay in force", "error", err)
			}
		}
	}()
	return func() {
		signal.Stop(hangup)
		close(hangup)
		<-done
	}
}
