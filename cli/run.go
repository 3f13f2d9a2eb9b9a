package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"disc/config/input"
	"disc/discovery"
)

type runOptions struct {
	discovery.Registration
	weight, slots int
	ports         map[string]int
	meta          map[string]string
	tags          []string
	checks        []string
	interval      time.Duration
	timeout       time.Duration

	checkCA         string // the file, and then its content
	checkName       string // the name in the certificate
	checkSkipVerify bool

	drainDelay  time.Duration
	killTimeout time.Duration
	command     []string
}

func (a *app) runCommand() *cobra.Command {
	var o runOptions
	c := &cobra.Command{
		Use:        "run --service SERVICE [flags] -- COMMAND...",
		SuggestFor: []string{"register", "exec"},
		Short:      "Run a service, registered while it runs",
		Long: `Run a command as an instance of a service. This host's agent registers and checks the
instance while 'disc run' lives, and does not remember it afterwards. The command runs
even if the agent is unavailable; it is registered when the agent is back.

At SIGTERM or SIGINT, the instance is deregistered. The command gets SIGTERM after the
drain delay, in which callers notice, and SIGKILL after the kill timeout. At a second
SIGTERM or SIGINT, the command gets SIGTERM at once. SIGHUP, SIGUSR1, SIGUSR2, SIGQUIT,
SIGWINCH and SIGCONT are forwarded to the command.

The command shares the process group of 'disc run', so that it can read the terminal,
which sends it SIGINT, SIGQUIT and SIGWINCH itself. Orphaned descendants of the command
are reaped, and those that outlive it are stopped. If 'disc run' is killed, the kernel
kills the command too, but not its descendants: let a wrapper script exec the service.

The command's environment has the service in DISC_SERVICE, the id in DISC_INSTANCE, and
--port, if given, in PORT.

A check is one of
  tcp, tcp://HOST:PORT             connects; default: to the instance's address and port
  http, /PATH, http://HOST:PORT/…  2xx is passing; the first two request --port of
                                   --address, by default of loopback
  grpc, grpc://HOST:PORT[/NAME]    asks grpc.health.v1 about service NAME; grpcs: over TLS
  ttl:DURATION                     the command itself reports to the agent
It probes this host, or a network that the agent's setting checks.networks names. The
flags --check-ca, --check-server-name and --check-skip-verify are for https and grpcs.

When somebody deregisters the instance by force, 'disc run' says so and does not register
it again. The command goes on.

Exit code: the command's, 128 plus the number of the signal that killed it, 126 or 127
if it cannot be started, 5 instead of 0 if the instance was deregistered by force.`,
		Example: `  disc run --service web --port 8080 --check tcp -- ./server
  disc run --service web --id web-1 --port 8080 --check /healthz --interval 2s -- python3 -m http.server 8080
  disc run --service api --port 8080 --ports grpc=9090 --check grpc://127.0.0.1:9090 --tag v2 -- ./api`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.command = args
			if err := o.readCheckCA(cmd.Context()); err != nil {
				return err
			}
			if err := o.buildRegistration(cmd.Flags().Changed, a.config.Node); err != nil {
				return usage(err)
			}
			if !cmd.Flags().Changed("drain-delay") {
				o.drainDelay = a.config.DrainDelay
			}
			if !cmd.Flags().Changed("kill-timeout") {
				o.killTimeout = a.config.KillTimeout
			}
			return a.run(cmd.Context(), o)
		},
	}
	o.addFlags(c)
	if err := c.RegisterFlagCompletionFunc("service", a.completeService); err != nil {
		panic(err) // the flag is defined above
	}
	return c
}

func (o *runOptions) addFlags(c *cobra.Command) {
	f := c.Flags()
	f.SetInterspersed(false)
	f.StringVar(&o.Service, "service", "", "service of the instance (required)")
	f.StringVar(&o.ID, "id", "", "id of the instance (default SERVICE-NODE-PORT, or SERVICE-NODE-PID without a port)")
	f.StringVar(&o.Address, "address", "", "address for callers (default the agent's advertised address)")
	f.IntVar(&o.Port, "port", 0, "main port")
	f.StringToIntVar(&o.ports, "ports", nil, "further ports, name=port")
	f.StringVar(&o.Zone, "zone", "", "zone of the instance (default the agent's)")
	f.IntVar(&o.weight, "weight", 1, "0 to 65535; 0: used only if there is nothing else")
	f.IntVar(&o.slots, "slots", 1, "number of claims that the instance accepts at once")
	f.StringSliceVar(&o.tags, "tag", nil, "tags of the instance")
	f.StringToStringVar(&o.meta, "meta", nil, "meta of the instance, key=value")
	f.StringArrayVar(&o.checks, "check", nil, "health check, see above; without one the instance passes at once")
	f.DurationVar(&o.interval, "interval", 0, "time between two runs of a check (default 10s)")
	f.DurationVar(&o.timeout, "timeout", 0, "time limit of a check (default the lower of 5s and the interval)")
	f.StringVar(&o.checkCA, "check-ca", "", "file of the CA certificates of checked servers, read once (default the system's)")
	f.StringVar(&o.checkName, "check-server-name", "", "name in the certificate of checked servers (default the host)")
	f.BoolVar(&o.checkSkipVerify, "check-skip-verify", false, "accept any certificate of checked servers")
	f.DurationVar(&o.drainDelay, "drain-delay", 0, "time between deregistration and SIGTERM (default the setting drain_delay)")
	f.DurationVar(&o.killTimeout, "kill-timeout", 0, "time between SIGTERM and SIGKILL (default the setting kill_timeout)")
}

// buildRegistration completes the registration from the flags and validates it. changed
// reports whether a flag was given.
func (o *runOptions) buildRegistration(changed func(flag string) bool, node string) error {
	switch {
	case o.Service == "":
		return errors.New("--service is missing: give the service that the command is an instance of")
	case len(o.checks) == 0 && (changed("interval") || changed("timeout")):
		return errors.New("--interval and --timeout are for checks; give a --check")
	case o.drainDelay < 0 || o.killTimeout < 0:
		return errors.New("--drain-delay and --kill-timeout must not be negative")
	}
	if o.ID == "" {
		o.ID = defaultID(o.Service, node, o.Port)
	}
	if changed("weight") {
		o.Weight = &o.weight
	}
	if changed("slots") {
		o.Slots = &o.slots
	}
	o.Ports, o.Meta, o.Tags, o.Checks = o.ports, o.meta, o.tags, nil
	for _, text := range o.checks {
		c, err := o.parseCheck(text)
		if err != nil {
			return fmt.Errorf("--check %q: %w", text, err)
		}
		o.Checks = append(o.Checks, c)
	}
	if err := o.setVerification(); err != nil {
		return err
	}
	// The agent fills in its own address; here a placeholder takes its place.
	return o.Registration.WithDefaults("127.0.0.1", "").Validate()
}

// readCheckCA replaces the file of --check-ca by its content: the agent reads no file that a
// registration names.
func (o *runOptions) readCheckCA(ctx context.Context) error {
	if o.checkCA == "" {
		return nil
	}
	file := o.checkCA
	text, err := input.ReadFile(ctx, file, discovery.MaxCheckCA)
	if err != nil {
		return fmt.Errorf("read --check-ca: %w", err)
	}
	o.checkCA = string(text)
	if !x509.NewCertPool().AppendCertsFromPEM(text) {
		return usage(fmt.Errorf("--check-ca: %s contains no certificate in PEM form", file))
	}
	return nil
}

// defaultID returns an id that is the same at each start if there is a port, so that
// overrides stay in effect.
func defaultID(service, node string, port int) string {
	if port == 0 {
		port = os.Getpid()
	}
	return service + "-" + node + "-" + strconv.Itoa(port)
}

func (o *runOptions) parseCheck(text string) (discovery.CheckSpec, error) {
	c := discovery.CheckSpec{Interval: discovery.Duration(o.interval), Timeout: discovery.Duration(o.timeout)}
	scheme, rest, _ := strings.Cut(text, "://")
	switch {
	case text == "tcp", text == "grpc":
		c.Type = discovery.CheckType(text)
	case text == "grpcs":
		c.Type, c.TLS = discovery.CheckGRPC, true
	case text == "http", strings.HasPrefix(text, "/"):
		return o.ownHTTPCheck(c, text)
	case scheme != text && (scheme == "http" || scheme == "https"):
		c.Type, c.URL = discovery.CheckHTTP, text
	case scheme == "tcp" && rest != "":
		c.Type, c.Address = discovery.CheckTCP, rest
	case (scheme == "grpc" || scheme == "grpcs") && rest != "":
		c.Type, c.TLS = discovery.CheckGRPC, scheme == "grpcs"
		c.Address, c.Service, _ = strings.Cut(rest, "/")
	case strings.HasPrefix(text, "ttl:"):
		var ttl discovery.Duration
		err := ttl.UnmarshalText([]byte(strings.TrimPrefix(text, "ttl:")))
		return discovery.CheckSpec{Type: discovery.CheckTTL, TTL: ttl}, err
	default:
		return c, errors.New("use tcp, grpc, http, an http or https URL, a /PATH or ttl:DURATION")
	}
	return c, nil
}

// setVerification gives the checks over TLS what the flags say about certificates.
func (o *runOptions) setVerification() error {
	if o.checkCA == "" && o.checkName == "" && !o.checkSkipVerify {
		return nil
	}
	found := false
	for n := range o.Checks {
		if c := &o.Checks[n]; c.UsesTLS() {
			found = true
			c.CA, c.ServerName, c.SkipVerify = o.checkCA, o.checkName, o.checkSkipVerify
		}
	}
	if !found {
		return errors.New("--check-ca, --check-server-name and --check-skip-verify are for checks over TLS; give a --check of https or grpcs")
	}
	return nil
}

// ownHTTPCheck returns a check of the instance's own port. Without --address it asks
// loopback, since the address that the agent advertises is unknown here.
func (o *runOptions) ownHTTPCheck(c discovery.CheckSpec, path string) (discovery.CheckSpec, error) {
	switch {
	case path == "http" && o.Port == 0:
		return c, errors.New("http requires --port, or a URL")
	case o.Port == 0:
		return c, errors.New("a path requires --port")
	case path == "http":
		path = "/"
	}
	host := o.Address
	if host == "" {
		host = "127.0.0.1"
	}
	c.Type = discovery.CheckHTTP
	c.URL = "http://" + net.JoinHostPort(host, strconv.Itoa(o.Port)) + path
	return c, nil
}

// run runs the command and keeps it registered. The command runs on if the agent fails.
func (a *app) run(ctx context.Context, o runOptions) error {
	client, err := a.agent(ctx)
	if err != nil {
		return err
	}
	defer client.CloseIdle()
	s := supervisor{
		holder:     newRegistrationHolder(client, o.Registration, a.infof),
		drainDelay: o.drainDelay, killTimeout: o.killTimeout,
		interactive: isTerminal(a.io.In), progressf: a.progressf,
	}
	status, err := s.run(ctx, o.command, o.environment())
	if err != nil {
		return err
	}
	if status.Code == 0 && s.holder.taken.Load() {
		return exitWith(exitConflict) // the holder has said why
	}
	return exitWith(status.Code)
}

// environment returns the environment of the command.
func (o *runOptions) environment() []string {
	env := append(os.Environ(), "DISC_SERVICE="+o.Service, "DISC_INSTANCE="+o.ID)
	if o.Port != 0 {
		env = append(env, "PORT="+strconv.Itoa(o.Port))
	}
	return env
}
