// Package cli is the command line of disc, one file a command. [Main] is the whole
// program, so that tests run it inside their process.
package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/agent/api"
	"disc/config"
	"disc/discovery"
	"disc/discovery/etcd"
)

// Main runs the command of args, which do not include the program's name, and returns
// its exit code. It ends early when ctx does.
func Main(ctx context.Context, args []string, io *IO) int {
	a := &app{io: io}
	root := a.rootCommand()
	root.SetArgs(append([]string{}, args...)) // cobra takes nil for the process's own
	root.SetIn(io.In)
	root.SetOut(io.Out)
	root.SetErr(io.Err)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	if !a.parsed && exitCode(err) == exitFailed {
		err = usage(err)
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
	config *config.Config // of every command that is not about the program itself
	parsed bool           // the command line was understood
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "disc",
		Short: "Service discovery on etcd",
		Long: `disc is service discovery on etcd: one small sidecar agent beside each service,
and this command line.

'disc dev --demo' runs everything on this machine, for a try.

Exit codes: 0 done, 1 failed, 2 usage, 3 not found or nothing healthy, 4 timed out,
5 conflict; 'run', 'lock' and 'claim' end with their command's.`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: a.prepare,
		Args:              rejectUnknownCommand,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	config.AddFlags(root.PersistentFlags(), config.Global)
	root.AddGroup(
		&cobra.Group{ID: "run", Title: "Run:"},
		&cobra.Group{ID: "entries", Title: "Entries in etcd:"},
		&cobra.Group{ID: "ask", Title: "Ask this host's agent:"},
		&cobra.Group{ID: "program", Title: "The program:"},
	)
	addToGroup(root, "run", a.agentCommand(), a.devCommand(), a.runCommand(), a.lockCommand(), a.claimCommand())
	addToGroup(root, "entries", a.listCommand(), a.getCommand(), a.setCommand(), a.unsetCommand(), a.drainCommand(), a.undrainCommand(), a.watchCommand(), a.exportCommand(), a.kvCommand())
	addToGroup(root, "ask", a.lookupCommand(), a.waitCommand(), a.renderCommand(), a.limitCommand(), a.statusCommand())
	addToGroup(root, "program", a.configCommand(), a.versionCommand())
	root.AddCommand(a.demoServiceCommand())
	root.SetHelpCommandGroupID("program")
	root.SetCompletionCommandGroupID("program")
	a.completeFlags(root)
	return root
}

// rejectUnknownCommand refuses what is no command, and says what may have been meant.
func rejectUnknownCommand(parent *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := fmt.Sprintf("unknown command %q for %q", args[0], parent.CommandPath())
	parent.SuggestionsMinimumDistance = 2
	if near := parent.SuggestionsFor(args[0]); len(near) > 0 {
		text += "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return errors.New(text)
}

func addToGroup(root *cobra.Command, group string, commands ...*cobra.Command) {
	for _, c := range commands {
		c.GroupID = group
		root.AddCommand(c)
	}
}

// withoutConfig marks commands that need no settings.
const withoutConfig = "disc_without_config"

// prepare loads the settings before a command runs.
func (a *app) prepare(cmd *cobra.Command, _ []string) error {
	a.parsed = true
	if cmd.Annotations[withoutConfig] != "" || cmd.Name() == "completion" || cmd.HasParent() && cmd.Parent().Name() == "completion" {
		return nil
	}
	cfg, err := config.Load(cmd.Flags(), a.io.host())
	if err != nil {
		return err
	}
	a.config = cfg
	if cfg.CLI.NoColor {
		a.io.Color = false
	}
	return nil
}

func (a *app) keys() discovery.Keys { return discovery.NewKeys(a.config.Namespace) }

// agent returns a client of this host's agent, for an answer that only it has: it must be
// of the namespace that was asked for, if one was. Whether it is there at all shows when it
// is asked.
func (a *app) agent(ctx context.Context) (*api.Client, error) {
	client, err := a.anyAgent()
	if err != nil || !a.config.Explicit("namespace") {
		return client, err
	}
	if err := a.sameNamespace(ctx, client); err != nil && !errors.Is(err, discovery.ErrUnavailable) {
		return nil, err
	}
	return client, nil
}

// anyAgent returns a client of this host's agent, whatever namespace that serves.
func (a *app) anyAgent() (*api.Client, error) {
	client, err := api.NewClient(a.config.CLI.Agent)
	if err != nil {
		return nil, err
	}
	security, err := a.config.CLI.TLSConfig()
	if err != nil {
		return nil, err
	}
	client.UseTLS(security)
	if a.config.HTTP.TokenFile != "" {
		if client.Token, err = a.config.HTTP.Token(); err != nil {
			return nil, err
		}
	}
	return client, nil
}

// etcd returns a client of etcd.
func (a *app) etcd() (*clientv3.Client, error) {
	c := a.config.Etcd
	return etcd.Dial(etcd.Config{Endpoints: c.Endpoints, Timeout: c.DialTimeout, TLS: c.TLSSource(), Credentials: c.CredentialSource()})
}

// explain tells of an error of a call to etcd where etcd was and what to try.
func (a *app) explain(err error) error { return etcd.Explain(a.config.Etcd.Endpoints, err) }

// infof tells the user something that is not data.
func (a *app) infof(format string, args ...any) {
	fmt.Fprintln(a.io.Err, "disc: "+printable(fmt.Sprintf(format, args...)))
}

// report shows an error on stderr.
func (a *app) report(err error) {
	if e := (*silentError)(nil); errors.As(err, &e) {
		return
	}
	lines := strings.Split(strings.TrimSpace(err.Error()), "\n")
	for n, line := range lines {
		lines[n] = printable(line)
	}
	fmt.Fprintln(a.io.Err, "disc: "+strings.Join(lines, "\n      "))
}

// parseTarget reads SERVICE/ID.
func parseTarget(s string) (service, id string, err error) {
	service, id, ok := strings.Cut(s, "/")
	if !ok {
		return "", "", usage(fmt.Errorf("%q names no instance; write SERVICE/ID, as 'disc list SERVICE' shows them", s))
	}
	if err := discovery.ValidateService(service); err != nil {
		return "", "", usage(err)
	}
	if err := discovery.ValidateID(id); err != nil {
		return "", "", usage(err)
	}
	return service, id, nil
}
