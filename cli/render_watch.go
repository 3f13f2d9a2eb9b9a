package cli

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"disc/agent/api"
	"disc/cli/render"
	"disc/discovery/retry"
)

// renderCommandTimeout bounds the command of a file. A command that hangs would prevent all
// later runs.
const renderCommandTimeout = 30 * time.Second

// renderJob keeps one file current.
type renderJob struct {
	template *render.Template
	file     string
	command  string // "": none
	reported string // the last error that was printed
}

func (a *app) renderWatch(ctx context.Context, o renderOptions) error {
	q, err := parseQuiescence(o.wait)
	if err != nil {
		return err
	}
	jobs, err := parseJobs(ctx, o.jobs)
	if err != nil {
		return err
	}
	agent, err := a.agent(ctx)
	if err != nil {
		return err
	}
	reapOrphans(ctx)
	changed := retry.NewSignal()
	group, ctx := errgroup.WithContext(ctx)
	written, allWritten := context.WithCancel(context.WithoutCancel(ctx))
	commands := a.renderCommands(jobs)
	for _, runner := range commands {
		group.Go(func() error { return runner.Run(written) })
	}
	group.Go(func() error { return signalChanges(ctx, agent, changed) })
	group.Go(func() error { return signalNodes(ctx, agent, changed) })
	group.Go(func() error {
		defer allWritten()
		return a.renderOnChanges(ctx, fileRenderer{agent, jobs, commands, q, changed})
	})
	return group.Wait()
}

// renderCommands returns a runner for each command. Jobs with the same command share a
// runner, so that one change does not run the command twice.
func (a *app) renderCommands(jobs []*renderJob) map[string]*render.Runner {
	runners := map[string]*render.Runner{}
	for _, job := range jobs {
		if job.command == "" || runners[job.command] != nil {
			continue
		}
		runners[job.command] = render.NewRunner(func(ctx context.Context) {
			if err := render.Shell(ctx, job.command, a.io.Err, renderCommandTimeout); err != nil {
				a.infof("%v; it runs again after the next change", err)
			}
		})
	}
	return runners
}

// signalChanges sends on changed when an instance changes, or the agent becomes
// unavailable or available again. It returns when ctx ends.
func signalChanges(ctx context.Context, agent *api.Client, changed retry.Signal) error {
	var backoff retry.Backoff
	for ctx.Err() == nil {
		for _, err := range agent.Watch(ctx, "", "") {
			if err == nil {
				backoff.Reset()
			}
			changed.Notify()
		}
		backoff.Failed()
		if backoff.Wait(ctx) != nil {
			break
		}
	}
	return nil
}

// signalNodes sends on changed when the list of agents changes, which a watch does not
// report. It returns when ctx ends.
func signalNodes(ctx context.Context, agent *api.Client, changed retry.Signal) error {
	var backoff retry.Backoff
	var wait api.Wait
	for {
		view, err := nodesView(ctx, agent, wait)
		if err == nil {
			if view.Index != wait.Index {
				changed.Notify()
			}
			wait = api.Wait{Index: view.Index, For: api.DefaultWait}
			backoff.Reset()
			if ctx.Err() == nil {
				continue
			}
		}
		backoff.Failed()
		if backoff.Wait(ctx) != nil {
			return nil
		}
	}
}

func nodesView(ctx context.Context, agent *api.Client, wait api.Wait) (api.Freshness, error) {
	ctx, cancel := context.WithTimeout(ctx, wait.For+agentTimeout)
	defer cancel()
	_, view, err := agent.Nodes(ctx, wait)
	return view, err
}

// fileRenderer holds the jobs, and what keeps their files current.
type fileRenderer struct {
	agent      *api.Client
	jobs       []*renderJob
	commands   map[string]*render.Runner
	quiescence render.Quiescence
	changed    <-chan struct{}
}

// renderOnChanges renders all jobs now and after changes, until ctx ends. It retries after
// a failure.
func (a *app) renderOnChanges(ctx context.Context, f fileRenderer) error {
	var backoff retry.Backoff
	for {
		var retryDue <-chan time.Time
		if a.renderFiles(ctx, f) {
			backoff.Reset()
		} else {
			backoff.Failed()
			retryDue = time.After(backoff.Next())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-retryDue:
			continue
		case <-f.changed:
		}
		if f.quiescence.Wait(ctx, f.changed) != nil {
			return nil
		}
	}
}

// renderFiles renders all jobs and then requests the commands of the files that changed. It
// reports whether all jobs succeeded, and prints each error once.
func (a *app) renderFiles(ctx context.Context, f fileRenderer) (ok bool) {
	ok = true
	var due []*render.Runner
	source := newAgentSource(f.agent) // shared, so that all files agree about a service
	for _, job := range f.jobs {
		written, err := job.render(ctx, source)
		switch {
		case ctx.Err() != nil:
		case err == nil:
			job.reported = ""
		case err.Error() != job.reported:
			job.reported = err.Error()
			a.infof("%s stays as it is: %v", job.file, err)
		}
		ok = ok && err == nil
		if written {
			a.infof("%s is written", job.file)
			if runner := f.commands[job.command]; runner != nil && !slices.Contains(due, runner) {
				due = append(due, runner)
			}
		}
	}
	for _, runner := range due {
		runner.Request()
	}
	return ok
}

func (j *renderJob) render(ctx context.Context, s render.Source) (written bool, err error) {
	content, err := j.template.Execute(ctx, s)
	if err != nil {
		return false, err
	}
	return render.Write(j.file, content)
}
