// Package cli is the command line of disc, with a file for each command. [Main] is the
// whole program, so that tests can run it inside their process.
package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/agent/api"
	"disc/config"
	"disc/discovery"
	"disc/discovery/etcd"
	"disc/discovery/retry"
)

// Main runs the command that args give, without the program's name, and returns its exit
// code. It ends early when ctx does. A command whose output could not be written has failed.
func Main(ctx context.Context, args []string, io *IO) int {
	checked := *io
	out := &checkedOutput{to: io.Out}
	checked.Out = out
	a := &app{io: &checked}
	code := a.execute(ctx, args)
	if err := out.failure(); err != nil && code == exitDone {
		a.report(err)
		return exitFailed
	}
	return code
}

// execute runs a command, reports its error, and returns its exit code.
func (a *app) execute(ctx context.Context, args []string) int {
	root := a.rootCommand()
	if len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) {
		a.completeFlags(root) // of all commands: an agent would keep some 200 KiB for it
	}
	root.SetArgs(append([]string{}, args...)) // cobra would replace nil by os.Args
	root.SetIn(a.io.In)
	root.SetOut(a.io.Out)
	root.SetErr(a.io.Err)
	cmd, err := root.ExecuteContextC(ctx)
	a.sayHeldBack()
	if err == nil {
		return exitDone
	}
	err = explainStop(ctx, err)
	if _, unwritten := errors.AsType[*outputError](err); !unwritten && !a.parsed && exitCode(err) == exitFailed {
		err = usage(explainArgs(cmd, err))
	}
	a.report(err)
	if e := (*usageError)(nil); errors.As(err, &e) {
		fmt.Fprintf(a.io.Err, "      see '%s --help'\n", cmd.CommandPath())
	}
	return exitCode(err)
}

// app is one run of the program.
type app struct {
	io     *IO
	config *config.Config  // nil for commands about the program itself
	parsed bool            // the command line was parsed
	said   []*saidWarnings // of its logs
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "disc",
		Short: "Service discovery on etcd",
		Long: `disc is service discovery on etcd: a small sidecar agent beside each service, and this
command line.

To try it, 'disc dev --demo' runs everything on this machine.

Exit codes: 0 done, 1 failed, 2 usage, 3 not found or nothing healthy, 4 timed out,
5 conflict, 130 and 143 stopped by SIGINT and SIGTERM. What runs until it is stopped,
such as 'agent' and 'watch', ends with 0 then. 'run', 'lock' and 'claim' return the exit
code of their command.`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: a.prepare,
		Version:           currentVersion,
		Args:              rejectUnknownCommand,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	config.AddFlags(root.PersistentFlags(), config.Global)
	root.SetFlagErrorFunc(explainFlag)
	root.AddGroup(
		&cobra.Group{ID: "run", Title: "Run:"},
		&cobra.Group{ID: "entries", Title: "Entries in etcd:"},
		&cobra.Group{ID: "ask", Title: "Ask this host's agent:"},
		&cobra.Group{ID: "program", Title: "The program:"},
	)
	addToGroup(root, "run", a.agentCommand(), a.devCommand(), a.runCommand(), a.lockCommand(), a.claimCommand())
	addToGroup(root, "entries", a.listCommand(), a.getCommand(), a.setCommand(), a.unsetCommand(), a.drainCommand(), a.undrainCommand(), a.watchCommand(), a.exportCommand(), a.kvCommand(), a.suspectsCommand(), a.nodeCommand(), a.gcCommand())
	addToGroup(root, "ask", a.lookupCommand(), a.waitCommand(), a.renderCommand(), a.historyCommand(), a.limitCommand(), a.statusCommand(), a.whyCommand())
	addToGroup(root, "program", a.configCommand(), a.tokenCommand(), a.versionCommand())
	root.AddCommand(a.demoServiceCommand())
	addHelp(root)
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.SetHelpCommandGroupID("program")
	root.SetCompletionCommandGroupID("program")
	return root
}

func addToGroup(root *cobra.Command, group string, commands ...*cobra.Command) {
	for _, c := range commands {
		c.GroupID = group
		root.AddCommand(c)
	}
}

// groupCommand returns a command that only groups others.
func groupCommand(group cobra.Command, commands ...*cobra.Command) *cobra.Command {
	c := &group
	c.Args = rejectUnknownCommand
	c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	c.AddCommand(commands...)
	return c
}

// withoutConfig is the annotation of commands that need no settings.
const withoutConfig = "disc_without_config"

// prepare loads the settings before a command runs.
func (a *app) prepare(cmd *cobra.Command, _ []string) error {
	a.parsed = true
	if cmd.Annotations[withoutConfig] != "" || cmd.Name() == "completion" || cmd.HasParent() && cmd.Parent().Name() == "completion" {
		return nil
	}
	cfg, err := config.Load(cmd.Context(), cmd.Flags(), a.io.Host)
	if err != nil {
		return err
	}
	a.config = cfg
	if cmd.Annotations[logsVariables] == "" {
		a.warnOfVariables()
	}
	if cfg.CLI.NoColor {
		a.io.Color = false
	}
	return nil
}

func (a *app) keys() discovery.Keys { return discovery.NewKeys(a.config.Namespace) }

// agent returns a client of this host's agent. It returns an error if the agent serves
// another namespace than the one that a flag or variable gives. It does not report that
// the agent is unavailable: the first request does. A token may allow that request and not
// this question, which is for scope read: the answer is unknown then.
func (a *app) agent(ctx context.Context) (*api.Client, error) {
	client, err := a.anyAgent(ctx)
	if err != nil || !a.config.Explicit("namespace") {
		return client, err
	}
	err = a.sameNamespace(ctx, client)
	if refused, ok := errors.AsType[*api.Problem](err); ok && errors.Is(refused, discovery.ErrForbidden) {
		a.infof("it is unknown whether the agent serves namespace %q: %v", a.config.Namespace, err)
		return client, nil
	}
	if err != nil && !errors.Is(err, discovery.ErrUnavailable) {
		return nil, err
	}
	return client, nil
}

// namespaceAgent returns a client of this host's agent, and the agent's status. It fails as
// sameNamespace does.
func (a *app) namespaceAgent(ctx context.Context) (*api.Client, api.Agent, error) {
	client, err := a.anyAgent(ctx)
	if err != nil {
		return nil, api.Agent{}, err
	}
	its, err := a.agentOfNamespace(ctx, client)
	return client, its, err
}

// anyAgent returns a client of this host's agent, whatever namespace the agent serves.
func (a *app) anyAgent(ctx context.Context) (*api.Client, error) {
	return a.agentAt(ctx, a.config.CLI.Agent)
}

// agentAt returns a client of the agent at an address, with the certificates and the token of the
// settings.
func (a *app) agentAt(ctx context.Context, address string) (*api.Client, error) {
	client, err := api.NewClient(address)
	if err != nil {
		return nil, err
	}
	security, err := a.config.CLI.TLSConfig(ctx)
	if err != nil {
		return nil, err
	}
	client.UseTLS(security)
	client.SendTokenInClear = a.config.CLI.SendTokenInClear
	client.ReadToken = a.config.AgentToken
	client.Token, err = a.config.AgentToken(ctx)
	return client, err
}

// etcd returns a client of etcd.
func (a *app) etcd(ctx context.Context) (*clientv3.Client, error) {
	c := a.config.Etcd
	return etcd.Dial(ctx, etcd.Config{Endpoints: c.Endpoints, Timeout: c.DialTimeout, TLS: c.TLSSource(), Credentials: c.CredentialSource()})
}

// explain adds the endpoints and a hint to an error of a call to etcd.
func (a *app) explain(err error) error { return etcd.Explain(a.config.Etcd.Endpoints, err) }

// infof prints a message for the user on stderr.
func (a *app) infof(format string, args ...any) {
	fmt.Fprintln(a.io.Err, "disc: "+printable(fmt.Sprintf(format, args...)))
}

// progressf prints a message on a terminal, for somebody who waits there.
func (a *app) progressf(format string, args ...any) {
	if a.io.Terminal {
		a.infof(format, args...)
	}
}

// progressLater prints a message on a terminal unless stop is called within a second.
func (a *app) progressLater(format string, args ...any) (stop func()) {
	timer := time.AfterFunc(time.Second, func() { a.progressf(format, args...) })
	return func() { timer.Stop() }
}

// report prints an error on stderr, unless it is a [silentError].
func (a *app) report(err error) {
	if e := (*silentError)(nil); errors.As(err, &e) {
		return
	}
	lines := strings.Split(strings.TrimSpace(retry.PlainText(err)), "\n")
	for n, line := range lines {
		lines[n] = printable(line)
	}
	fmt.Fprintln(a.io.Err, "disc: "+strings.Join(lines, "\n      "))
}

// addIfRevision defines --if-revision, as addRevision does.
func addIfRevision(f *pflag.FlagSet, usage string) (value func() *int64) {
	return addRevision(f, "if-revision", usage)
}

// addRevision defines a flag for a revision. Once the flags are parsed, value returns the
// revision, or nil if the flag was not given.
func addRevision(f *pflag.FlagSet, name, usage string) (value func() *int64) {
	revision := f.Int64(name, 0, usage)
	return func() *int64 {
		if !f.Changed(name) {
			return nil
		}
		return revision
	}
}

// parseTarget parses SERVICE/ID.
func parseTarget(s string) (service, id string, err error) {
	service, id, ok := strings.Cut(s, "/")
	if !ok {
		return "", "", usage(fmt.Errorf("%q is not an instance; write SERVICE/ID ('disc list SERVICE -o name' lists them)", s))
	}
	if err := discovery.ValidateService(service); err != nil {
		return "", "", usage(err)
	}
	if err := discovery.ValidateID(id); err != nil {
		return "", "", usage(err)
	}
	return service, id, nil
}
