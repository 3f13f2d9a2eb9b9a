package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"disc/cli/child"
	"disc/discovery"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

type runOptions struct {
	discovery.Registration
	weight   int
	ports    map[string]int
	meta     map[string]string
	tags     []string
	checks   []string
	interval time.Duration
	timeout  time.Duration
	command  []string
}

func (a *app) runCommand() *cobra.Command {
	var o runOptions
	c := &cobra.Command{
		Use:   "run --service SERVICE [flags] -- COMMAND...",
		Short: "Run a service, registered for as long as it lives",
		Long: `Run a command as an instance of a service. This host's agent registers and checks it
for as long as 'disc run' lives; it is never remembered. An agent that is away does
not keep the command from running: it is registered when the agent is back.

SIGTERM or SIGINT: the instance is deregistered, callers get the drain delay to notice,
then the command gets SIGTERM, and SIGKILL after the kill timeout (settings drain_delay
and kill_timeout). A second one ends all at once. SIGHUP, SIGUSR1, SIGUSR2, SIGQUIT and
SIGWINCH are passed on.

The command shares the process group, so that it can read the terminal; INT, QUIT and
WINCH of a terminal reach it directly. Orphans that it leaves are reaped, and whatever
is left of it when it ends is ended too. If 'disc run' is killed, the kernel kills the
command with it.

The command finds its service in DISC_SERVICE, its id in DISC_INSTANCE and --port, if
given, in PORT.

A check is one of
  tcp, tcp://HOST:PORT                     connects; default: the instance's address
  http://HOST:PORT/PATH, https://…, /PATH  2xx is passing; /PATH asks --port on loopback
  grpc, grpc://HOST:PORT[/SERVICE]         grpc.health.v1
  ttl:DURATION                             the command reports to the agent by itself

Exit code: the command's, 128 and the number of the signal that killed it, 126 or 127
when it cannot be started.`,
		Example: `  disc run --service web --port 8080 --check tcp -- ./server
  disc run --service web --id web-1 --port 8080 --check /healthz --interval 2s -- python3 -m http.server 8080
  disc run --service api --port 8080 --ports grpc=9090 --check grpc://127.0.0.1:9090 --tag v2 -- ./api`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.command = args
			if cmd.Flags().Changed("weight") {
				o.Weight = &o.weight
			}
			if err := o.complete(a.config.Node); err != nil {
				return usage(err)
			}
			return a.run(cmd.Context(), o)
		},
	}
	f := c.Flags()
	f.SetInterspersed(false)
	f.StringVar(&o.Service, "service", "", "the service (required)")
	f.StringVar(&o.ID, "id", "", "the instance's id (default SERVICE-NODE[-PORT])")
	f.StringVar(&o.Address, "address", "", "where callers reach it (default the agent's advertised address)")
	f.IntVar(&o.Port, "port", 0, "its main port")
	f.StringToIntVar(&o.ports, "ports", nil, "further ports, name=port")
	f.StringVar(&o.Zone, "zone", "", "its zone (default the agent's)")
	f.IntVar(&o.weight, "weight", 1, "0 to 65535; 0: only when nothing else is left")
	f.StringSliceVar(&o.tags, "tag", nil, "its tags")
	f.StringToStringVar(&o.meta, "meta", nil, "its meta, key=value")
	f.StringArrayVar(&o.checks, "check", nil, "a health check, see above; without one it passes at once")
	f.DurationVar(&o.interval, "interval", discovery.DefaultCheckInterval, "time between two runs of a check")
	f.DurationVar(&o.timeout, "timeout", 0, "time that a check may take (default the lower of 5s and the interval)")
	return c
}

// complete makes the registration of what the flags say, and checks it.
func (o *runOptions) complete(node string) error {
	if o.Service == "" {
		return errors.New("--service is missing: the service that the command is an instance of")
	}
	if o.ID == "" {
		o.ID = o.Service + "-" + node
		if o.Port != 0 {
			o.ID += "-" + strconv.Itoa(o.Port)
		}
	}
	o.Ports, o.Meta, o.Tags, o.Checks = o.ports, o.meta, o.tags, nil
	for _, text := range o.checks {
		c, err := o.parseCheck(text)
		if err != nil {
			return fmt.Errorf("--check %q: %w", text, err)
		}
		o.Checks = append(o.Checks, c)
	}
	// The agent fills in its address; one stands for it here.
	return o.Registration.WithDefaults("127.0.0.1", "").Validate()
}

func (o *runOptions) parseCheck(text string) (discovery.CheckSpec, error) {
	c := discovery.CheckSpec{Interval: discovery.Duration(o.interval), Timeout: discovery.Duration(o.timeout)}
	scheme, rest, _ := strings.Cut(text, "://")
	switch {
	case text == "tcp", text == "grpc":
		c.Type = discovery.CheckType(text)
	case scheme == "http", scheme == "https":
		c.Type, c.URL = discovery.CheckHTTP, text
	case scheme == "tcp":
		c.Type, c.Address = discovery.CheckTCP, rest
	case scheme == "grpc":
		c.Type = discovery.CheckGRPC
		c.Address, c.Service, _ = strings.Cut(rest, "/")
	case strings.HasPrefix(text, "/"):
		if o.Port == 0 {
			return c, errors.New("a path needs --port")
		}
		c.Type, c.URL = discovery.CheckHTTP, fmt.Sprintf("http://127.0.0.1:%d%s", o.Port, text)
	case strings.HasPrefix(text, "ttl:"):
		var ttl discovery.Duration
		err := ttl.UnmarshalText([]byte(strings.TrimPrefix(text, "ttl:")))
		return discovery.CheckSpec{Type: discovery.CheckTTL, TTL: ttl}, err
	default:
		return c, errors.New("use tcp, grpc, an http or https URL, a /PATH or ttl:DURATION")
	}
	return c, nil
}

// run supervises the command and its registration. The command's life does not hang on
// the agent's.
func (a *app) run(ctx context.Context, o runOptions) error {
	client, err := a.agent()
	if err != nil {
		return err
	}
	defer client.CloseIdle()
	command, err := child.Start(child.Command{Args: o.command, Env: o.environment(), Grace: a.config.KillTimeout})
	if err != nil {
		return err
	}
	end := passSignals(command, isTerminal(a.io.In))
	defer end()
	a.registerWhileRunning(ctx, newHolder(client, o.Registration, a.note), command)
	<-command.Done()
	return exit(command.Status().Code)
}

// environment is what the command finds in its environment.
func (o *runOptions) environment() []string {
	env := append(os.Environ(), "DISC_SERVICE="+o.Service, "DISC_INSTANCE="+o.ID)
	if o.Port != 0 {
		env = append(env, "PORT="+strconv.Itoa(o.Port))
	}
	return env
}

// registerWhileRunning keeps the instance registered until its command ends, or until
// ctx does: then callers get the drain delay to notice that it left, before the command
// is stopped.
func (a *app) registerWhileRunning(ctx context.Context, h *holder, command *child.Process) {
	living := context.WithoutCancel(ctx)
	holding, release := context.WithCancel(living)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		h.keep(holding)
	}()
	select {
	case <-command.Exited():
	case <-ctx.Done():
	}
	release()
	<-kept
	h.leave(living)
	if h.wasHeld() { // otherwise there are no callers
		drained(command, a.config.DrainDelay)
	}
	command.Stop(a.config.KillTimeout)
}

// drained waits for the drain delay, or until the command has ended by itself.
func drained(command *child.Process, delay time.Duration) {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-command.Exited():
	case <-timer.C:
	}
}

// passSignals passes signals on to the command until end is called. What a terminal
// sends, it sends to the command too.
func passSignals(command *child.Process, interactive bool) (end func()) {
	received := make(chan os.Signal, 16)
	signal.Notify(received, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGQUIT, syscall.SIGWINCH)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := range received {
			if interactive && (s == syscall.SIGQUIT || s == syscall.SIGWINCH) {
				continue
			}
			_ = command.Signal(s.(syscall.Signal)) // it may have just ended
		}
	}()
	return func() {
		signal.Stop(received)
		close(received)
		<-done
	}
}

func isTerminal(in io.Reader) bool {
	f, ok := in.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
