package cli

import (
	"bytes"
	"context"
	"io"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"disc/agent/api"
	"disc/cli/render"
	"disc/discovery/retry"
)

// renderJob keeps one file current.
type renderJob struct {
	template *render.Template
	file     string
	command  string // "": none
	reported string // the last error that was printed
	rendered bool   // content is what was last written
	content  []byte
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
	commands := a.fileCommands(jobs)
	for _, c := range commands {
		group.Go(func() error { return c.runner.Run(written) })
	}
	group.Go(func() error { return signalChanges(ctx, agent, changed) })
	group.Go(func() error { return signalNodes(ctx, agent, changed) })
	group.Go(func() error {
		defer allWritten()
		return a.renderOnChanges(ctx, fileRenderer{agent, jobs, commands, q, changed})
	})
	return group.Wait()
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
	commands   map[string]*fileCommand
	quiescence render.Quiescence
	changed    <-chan struct{}
}

// renderOnChanges renders all jobs now and after changes, until ctx ends. It retries after
// a failure.
func (a *app) renderOnChanges(ctx context.Context, f fileRenderer) error {
	var backoff retry.Backoff
	for first := true; ; first = false {
		var retryDue <-chan time.Time
		if a.renderFiles(ctx, f) {
			backoff.Reset()
		} else {
			backoff.Failed()
			retryDue = time.After(backoff.Next())
		}
		if first {
			a.resumeCommands(f)
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
	var due []*fileCommand
	source := newAgentSource(f.agent) // shared, so that all files agree about a service
	for _, job := range f.jobs {
		written, err := a.renderFile(ctx, job, f.commands[job.command], source)
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
			if c := f.commands[job.command]; c != nil && !slices.Contains(due, c) {
				due = append(due, c)
			}
		}
	}
	for _, c := range due {
		c.runner.Request()
	}
	return ok
}

// renderFile renders a job. It reports whether the file has changed, or, for a stream, whether the
// content has. command is nil if there is none.
func (a *app) renderFile(ctx context.Context, job *renderJob, command *fileCommand, s render.Source) (written bool, err error) {
	content, err := job.template.Execute(ctx, s)
	if err != nil {
		return false, err
	}
	if job.rendered && bytes.Equal(content, job.content) && a.isStream(job.file) {
		return false, nil
	}
	switch to := a.standardStream(job.file); {
	case to != nil:
		_, err = to.Write(content)
		written = err == nil
	case command != nil:
		written, err = command.write(job.file, content)
	default:
		written, err = render.Write(job.file, content)
	}
	job.rendered, job.content = err == nil, content
	return written, err
}

// standardStream returns the stream of this process that a file names; nil: none.
func (a *app) standardStream(file string) io.Writer {
	switch file {
	case "/dev/stdout":
		return a.io.Out
	case "/dev/stderr":
		return a.io.Err
	}
	return nil
}

// isStream reports whether a file cannot be compared with what was written to it.
func (a *app) isStream(file string) bool {
	return a.standardStream(file) != nil || render.IsStream(file)
}
