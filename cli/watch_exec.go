package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"maps"
	"math/bits"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"disc/agent/api"
	"disc/cli/render"
	"disc/discovery"
	"disc/discovery/view"
)

// watchAndRun runs a command now and after each change of a service, or of all services if it is "",
// with the instances on its standard input. It ends when ctx does, and stops the command then.
func (a *app) watchAndRun(ctx context.Context, service, line string) error {
	if service != "" {
		if err := discovery.ValidateService(service); err != nil {
			return usage(err)
		}
	}
	if strings.TrimSpace(line) == "" {
		return usage(errors.New("--exec is empty; give a command, such as --exec 'cat >web.json'"))
	}
	if _, err := a.formatAnswer(nil); err != nil { // a mistake in -o
		return err
	}
	reapOrphans(ctx)
	group, ctx := errgroup.WithContext(ctx)
	runs := answeredRuns{app: a, line: line}
	runner := render.NewRunner(func(_ context.Context, failures int) error { return runs.run(ctx, failures) })
	group.Go(func() error { return runner.Run(ctx) })
	group.Go(func() error {
		first, known := true, lastSeen{}
		for e, err := range a.changeStream(ctx, service) {
			if err == nil {
				known.update(e)
			}
			if err == nil && first {
				err = a.checkFirstAnswer(ctx, service, e, known)
			}
			if err != nil {
				return err
			}
			first = false
			runs.set(known)
			runner.Request()
		}
		return nil
	})
	return group.Wait()
}

// checkFirstAnswer returns an error if nothing is known of the service, or if -o does not fit its
// instances.
func (a *app) checkFirstAnswer(ctx context.Context, service string, first api.Event, known lastSeen) error {
	if err := a.requireService(ctx, service, first); err != nil {
		return err
	}
	_, err := a.formatAnswer(slices.Collect(maps.Values(known)))
	return err
}

// answeredRuns runs a command with the newest answer to a watch.
type answeredRuns struct {
	app  *app
	line string

	mu     sync.Mutex
	newest []*view.Entry

	done []byte // the answer of the last run if that succeeded, otherwise nil; only for run
}

// set makes these instances the newest answer.
func (r *answeredRuns) set(known lastSeen) {
	newest := slices.Collect(maps.Values(known))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.newest = newest
}

// run formats the newest answer, and runs the command with it unless the command has had the same
// answer the last time. It says that a run fails at the first, second, fourth, … failure in a row.
func (r *answeredRuns) run(ctx context.Context, failures int) error {
	r.mu.Lock()
	newest := r.newest
	r.mu.Unlock()
	input, err := r.app.formatAnswer(newest)
	if err == nil {
		if r.done != nil && bytes.Equal(r.done, input) {
			return nil
		}
		err = render.Command{Line: r.line, Stdin: bytes.NewReader(input), Stdout: r.app.io.childOut(), Stderr: r.app.io.Err}.Run(ctx)
	}
	r.done = nil
	switch {
	case ctx.Err() != nil:
		return nil // the command is stopped, and not to be run again
	case err == nil:
		r.done = append([]byte{}, input...) // not nil, even if it is empty
	}
	switch {
	case err != nil && bits.OnesCount(uint(failures+1)) == 1:
		r.app.infof("%v; trying again", err)
	case err == nil && failures > 0:
		r.app.infof("run %q: done, after %d failures", r.line, failures)
	}
	return err
}

// formatAnswer formats instances in the format of -o, where a table stands for JSON.
func (a *app) formatAnswer(known []*view.Entry) ([]byte, error) {
	l := entryListing(nil)
	for _, e := range slices.SortedFunc(slices.Values(known), func(a, b *view.Entry) int {
		return cmp.Or(strings.Compare(a.Service, b.Service), strings.Compare(a.ID, b.ID))
	}) {
		l.items = append(l.items, *e)
	}
	var out bytes.Buffer
	streams, settings := IO{Out: &out, Host: a.io.Host}, *a.config
	if a.printsTable() {
		settings.CLI.Output = "json"
	}
	err := show(&app{io: &streams, config: &settings}, l)
	return out.Bytes(), err
}
