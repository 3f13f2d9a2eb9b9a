package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"disc/agent/api"
	"disc/cli/render"
	"disc/discovery"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

// Bounds of following.
const (
	renderAgain   = 30 * time.Second // without a change: nodes come and go without one
	renderCommand = 30 * time.Second // for a command; then it is killed
)

type renderOptions struct {
	jobs []string // TEMPLATE:FILE[:COMMAND]
	wait string   // LEAST:MOST
}

func (a *app) renderCommand() *cobra.Command {
	var o renderOptions
	c := &cobra.Command{
		Use:   "render TEMPLATE | render -w TEMPLATE:FILE[:COMMAND]...",
		Short: "Turn templates into files",
		Long: `Render a template from what this host's agent answers, to stdout; or with -w, keep
files current: each is written as a whole, and only when its content changes, and then
its command is run by sh. Changes are awaited together (--wait). While the agent is
away, files stay as they are.

Templates are Go's (text/template), with
  service NAME        the healthy endpoints of a lookup name, sorted by id: .ID .Address
                      .Port .Ports .Node .Zone .Weight .Tags .Meta .Status
  instances SERVICE   all instances, whatever their .Status and .State
  services, nodes     the names of all services; all agents
  env NAME, join SEPARATOR LIST, split SEPARATOR TEXT, toLower, toUpper,
  replaceAll OLD NEW TEXT, contains PART TEXT, in LIST ITEM, toJSON`,
		Example: `  disc render nginx.ctmpl
  disc render -w nginx.ctmpl:/etc/nginx/conf.d/web.conf:'nginx -s reload'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == (len(o.jobs) > 0) {
				return usage(errors.New("give one TEMPLATE, or -w TEMPLATE:FILE[:COMMAND] as often as you like"))
			}
			if len(args) == 1 {
				return a.renderOnce(cmd.Context(), args[0])
			}
			return a.renderFollow(cmd.Context(), o)
		},
	}
	c.Flags().StringArrayVarP(&o.jobs, "watch", "w", nil, "TEMPLATE:FILE[:COMMAND]: keep a file current")
	c.Flags().StringVar(&o.wait, "wait", "250ms:2s", "LEAST:MOST: after a change, wait until none has come for LEAST, at most MOST")
	return c
}

func (a *app) renderOnce(ctx context.Context, file string) error {
	t, err := parseTemplate(file)
	if err != nil {
		return err
	}
	agent, err := a.agent()
	if err != nil {
		return err
	}
	content, err := t.Execute(ctx, agentSource{agent})
	if err != nil {
		return err
	}
	_, err = a.io.Out.Write(content)
	return err
}

func parseTemplate(file string) (*render.Template, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read template: %w", err)
	}
	return render.Parse(file, string(text))
}

// renderJob is a file that is kept current.
type renderJob struct {
	template *render.Template
	file     string
	command  string // empty: none
	failed   string // the last failure that was told of
}

// parseJob reads TEMPLATE:FILE[:COMMAND].
func parseJob(s string) (*renderJob, error) {
	part := strings.SplitN(s, ":", 3)
	if len(part) < 2 || part[0] == "" || part[1] == "" {
		return nil, usage(fmt.Errorf("-w %q is not TEMPLATE:FILE[:COMMAND]", s))
	}
	t, err := parseTemplate(part[0])
	if err != nil {
		return nil, err
	}
	return &renderJob{template: t, file: part[1], command: strings.Join(part[2:], "")}, nil
}

// parseQuiescence reads LEAST:MOST.
func parseQuiescence(s string) (render.Quiescence, error) {
	least, most, ok := strings.Cut(s, ":")
	var q render.Quiescence
	var errLeast, errMost error
	q.Least, errLeast = time.ParseDuration(least)
	q.Most, errMost = time.ParseDuration(most)
	if !ok || errLeast != nil || errMost != nil || q.Least <= 0 || q.Most < q.Least {
		return q, usage(fmt.Errorf("--wait %q is not LEAST:MOST, such as 250ms:2s", s))
	}
	return q, nil
}

func (a *app) renderFollow(ctx context.Context, o renderOptions) error {
	q, err := parseQuiescence(o.wait)
	if err != nil {
		return err
	}
	var jobs []*renderJob
	for _, s := range o.jobs {
		job, err := parseJob(s)
		if err != nil {
			return err
		}
		jobs = append(jobs, job)
	}
	agent, err := a.agent()
	if err != nil {
		return err
	}
	changed := make(chan struct{}, 1)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return signalChanges(ctx, agent, changed) })
	group.Go(func() error { return a.keepCurrent(ctx, agent, jobs, q, changed) })
	return group.Wait()
}

// signalChanges signals each change of an instance, and that the agent goes away or is
// back. It ends with ctx.
func signalChanges(ctx context.Context, agent *api.Client, changed chan<- struct{}) error {
	var retry discovery.Backoff
	for ctx.Err() == nil {
		for _, err := range agent.Watch(ctx, "", "") {
			if err == nil {
				retry.Reset()
			}
			select {
			case changed <- struct{}{}:
			default:
			}
		}
		retry.Failed()
		if retry.Wait(ctx) != nil {
			break
		}
	}
	return nil
}

// keepCurrent renders all jobs now and after changes, until ctx ends.
func (a *app) keepCurrent(ctx context.Context, agent *api.Client, jobs []*renderJob, q render.Quiescence, changed <-chan struct{}) error {
	var retry discovery.Backoff
	for {
		again := renderAgain
		for _, job := range jobs {
			if err := a.renderFile(ctx, agent, job); err != nil && ctx.Err() == nil {
				retry.Failed()
				again = retry.Next()
			}
		}
		if again == renderAgain {
			retry.Reset()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(again):
			continue
		case <-changed:
		}
		if q.Settle(ctx, changed) != nil {
			return nil
		}
	}
}

// renderFile renders a job, and runs its command if the file has changed. Each failure
// is told once.
func (a *app) renderFile(ctx context.Context, agent *api.Client, job *renderJob) error {
	content, err := job.template.Execute(ctx, agentSource{agent})
	var written bool
	if err == nil {
		written, err = render.Write(job.file, content)
	}
	if text := fmt.Sprint(err); text != job.failed {
		job.failed = text
		if err != nil && ctx.Err() == nil {
			a.note("%s stays as it is: %v", job.file, err)
		}
	}
	if written {
		a.note("%s is written", job.file)
		a.runAfter(ctx, job)
	}
	return err
}

// runAfter runs a job's command to its end.
func (a *app) runAfter(ctx context.Context, job *renderJob) {
	if job.command == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, renderCommand)
	defer cancel()
	command := exec.CommandContext(ctx, "sh", "-c", job.command)
	command.Stdout, command.Stderr = a.io.Err, a.io.Err
	command.WaitDelay = time.Second // what it leaves running may keep the output open
	if err := command.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		a.note("the command after %s failed, and is run again after the next change: %v", job.file, err)
	}
}

// agentSource is what this host's agent answers, in a fixed order.
type agentSource struct{ agent *api.Client }

func (s agentSource) Service(ctx context.Context, name string) ([]discovery.Endpoint, error) {
	answer, _, err := s.agent.Lookup(ctx, name, api.LookupOptions{})
	slices.SortFunc(answer.Endpoints, func(a, b discovery.Endpoint) int { return strings.Compare(a.ID, b.ID) })
	return answer.Endpoints, known(err)
}

func (s agentSource) Instances(ctx context.Context, service string) ([]discovery.Entry, error) {
	entries, _, err := s.agent.Instances(ctx, service, api.ListOptions{})
	return entries, known(err)
}

func (s agentSource) Services(ctx context.Context) ([]string, error) {
	services, _, err := s.agent.Services(ctx, api.Wait{})
	names := make([]string, len(services))
	for n, service := range services {
		names[n] = service.Service
	}
	return names, err
}

func (s agentSource) Nodes(ctx context.Context) ([]discovery.Node, error) {
	nodes, _, err := s.agent.Nodes(ctx, api.Wait{})
	slices.SortFunc(nodes, func(a, b discovery.Node) int {
		return cmp.Or(strings.Compare(a.Node, b.Node), strings.Compare(a.Agent, b.Agent))
	})
	return nodes, err
}

// known takes an unknown service for one without instances.
func known(err error) error {
	if errors.Is(err, discovery.ErrNotFound) {
		return nil
	}
	return err
}
