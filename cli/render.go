package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"disc/agent/api"
	"disc/cli/render"
	"disc/config/input"
	"disc/discovery/retry"
)

type renderOptions struct {
	jobs    []string // TEMPLATE:FILE[:COMMAND]
	wait    string   // MIN:MAX
	timeout time.Duration
}

func (a *app) renderCommand() *cobra.Command {
	var o renderOptions
	c := &cobra.Command{
		Use:   "render TEMPLATE | render -w TEMPLATE:FILE[:COMMAND]...",
		Short: "Render templates into files",
		Long: `Render a template to stdout, from the answers of this host's agent. With -w, keep files
current: a file is replaced as a whole when its content changes, and then sh runs its
command. Changes that follow each other are handled together (--wait). A command that is
still running is started again when it has ended. One that fails is run again until it
succeeds, and so is one that an earlier 'disc render' did not come to run, which the file
.FILE-pending notes. While the agent is unavailable or a template fails, the files stay as
they are. A terminal or a pipe, such as /dev/stdout, is written to at each change.

Templates are Go's (text/template), with
  service NAME        the healthy endpoints of a lookup name (web, v2.web), sorted by id:
                      .ID .Address .Port .Ports .Node .Zone .Weight .Tags .Meta .Status
  instances SERVICE   all instances: the same fields, and .State
  services            all services: .Name .Healthy .Total .Tags
  nodes               all agents: .Node .Agent .Address .Zone .Version
  hostport ADDRESS PORT, with brackets around IPv6; isIP ADDRESS: no host name
  env NAME, join SEPARATOR LIST, split SEPARATOR TEXT, toLower, toUpper,
  replaceAll OLD NEW TEXT, contains ITEM IN, in IN ITEM
  shellQuote, nginxQuote, haproxyQuote TEXT: one word of sh, nginx or HAProxy
  toJSON, toYAML VALUE: a value of JSON or YAML, on one line
An unknown service has no endpoints, and a missing meta key is empty. Whoever registers
an instance chooses its .Meta, which may be any text: quote it. What a format cannot
express fails the template. Ports may be 0, and addresses host names.

Exit code 4 if the agent still has no view of etcd after --timeout.`,
		Example: `  disc render nginx.ctmpl
  disc render -w nginx.ctmpl:/etc/nginx/conf.d/web.conf:'nginx -s reload'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == (len(o.jobs) > 0) {
				return usage(errors.New("give one TEMPLATE, or -w TEMPLATE:FILE[:COMMAND] once or more"))
			}
			if len(args) == 1 {
				return a.renderOnce(cmd.Context(), args[0], o.timeout)
			}
			return a.renderWatch(cmd.Context(), o)
		},
	}
	c.Flags().StringArrayVarP(&o.jobs, "watch", "w", nil, "TEMPLATE:FILE[:COMMAND]: keep a file current")
	c.Flags().StringVar(&o.wait, "wait", "250ms:2s", "MIN:MAX: after a change, wait until there is none for MIN, at most MAX")
	c.Flags().DurationVar(&o.timeout, "timeout", time.Minute, "without -w: maximum time to wait for the agent's view of etcd; 0: forever")
	return c
}

func (a *app) renderOnce(ctx context.Context, file string, timeout time.Duration) error {
	if timeout < 0 {
		return usage(errors.New("--timeout must not be negative"))
	}
	t, err := parseTemplate(ctx, file)
	if err != nil {
		return err
	}
	agent, err := a.agent(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := withTimeout(ctx, timeout)
	defer cancel()
	content, err := a.firstRendering(ctx, t, agent)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) && err != nil {
		return fmt.Errorf("%w after %v: %w", errTimedOut, timeout, err)
	}
	if err != nil {
		return err
	}
	_, err = a.io.Out.Write(content)
	return err
}

// firstRendering retries until the agent has answered all requests of the template. It
// returns the last error when ctx ends, and an error that would come again at once.
func (a *app) firstRendering(ctx context.Context, t *render.Template, agent *api.Client) ([]byte, error) {
	var backoff retry.Backoff
	for {
		content, err := t.Execute(ctx, newAgentSource(agent))
		if err == nil || !worthRetrying(err) {
			return content, err
		}
		if backoff.Failed() {
			a.infof("%v; trying again", err)
		}
		if ended := backoff.Wait(ctx); ended != nil {
			return nil, errors.Join(ended, err)
		}
	}
}

func parseTemplate(ctx context.Context, file string) (*render.Template, error) {
	text, err := input.ReadFile(ctx, file, input.MaxTemplate)
	if err != nil {
		return nil, fmt.Errorf("read template: %w", err)
	}
	return render.Parse(file, string(text))
}

// parseJobs parses the values of -w. Each must have a file of its own.
func parseJobs(ctx context.Context, all []string) ([]*renderJob, error) {
	var jobs []*renderJob
	for _, s := range all {
		job, err := parseJob(ctx, s)
		if err != nil {
			return nil, err
		}
		for _, other := range jobs {
			if other.file == job.file {
				return nil, usage(fmt.Errorf("-w gives the file %s to two templates", job.file))
			}
		}
		jobs = append(jobs, job)
	}
	return jobs, nil
}

func parseJob(ctx context.Context, s string) (*renderJob, error) {
	part := strings.SplitN(s, ":", 3)
	if len(part) < 2 || part[0] == "" || part[1] == "" {
		return nil, usage(fmt.Errorf("-w %q is not TEMPLATE:FILE[:COMMAND]", s))
	}
	if part[0] == part[1] {
		return nil, usage(fmt.Errorf("-w %q would overwrite its template", s))
	}
	t, err := parseTemplate(ctx, part[0])
	if err != nil {
		return nil, err
	}
	return &renderJob{template: t, file: part[1], command: strings.Join(part[2:], "")}, nil
}

// parseQuiescence parses MIN:MAX.
func parseQuiescence(s string) (render.Quiescence, error) {
	minimum, maximum, ok := strings.Cut(s, ":")
	var q render.Quiescence
	var errMin, errMax error
	q.Min, errMin = time.ParseDuration(minimum)
	q.Max, errMax = time.ParseDuration(maximum)
	if !ok || errMin != nil || errMax != nil || q.Min <= 0 || q.Max < q.Min {
		return q, usage(fmt.Errorf("--wait %q is not MIN:MAX, such as 250ms:2s", s))
	}
	return q, nil
}
