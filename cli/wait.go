package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/retry"
)

type waitOptions struct {
	least   int
	timeout time.Duration
}

func (a *app) waitCommand() *cobra.Command {
	var o waitOptions
	c := &cobra.Command{
		Use:   "wait SERVICE",
		Short: "Wait until a service is healthy",
		Long: `Wait until this host's agent answers a name with at least --min endpoints.

Exit code 4 if it does not do so within --timeout.`,
		Example: `  disc wait web
  disc wait web --min 2 --timeout 30s`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.wait(cmd.Context(), args[0], o)
		},
	}
	c.Flags().IntVar(&o.least, "min", 1, "minimum number of endpoints")
	c.Flags().DurationVar(&o.timeout, "timeout", time.Minute, "maximum time to wait; 0: forever")
	return c
}

func (a *app) wait(ctx context.Context, name string, o waitOptions) error {
	if o.least < 1 || o.timeout < 0 {
		return usage(errors.New("--min must be at least 1 and --timeout must not be negative"))
	}
	if err := checkLookupName(name); err != nil {
		return err
	}
	agent, err := a.agent(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := withTimeout(ctx, o.timeout)
	defer cancel()
	err = a.awaitEndpoints(ctx, agent, name, o.least)
	if e := (*tooFewError)(nil); errors.As(err, &e) {
		return fmt.Errorf("%w after %v: %w", errTimedOut, o.timeout, e)
	}
	return err
}

// withTimeout returns ctx with a timeout; 0 means none.
func withTimeout(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}

// tooFewError tells what was missing when the time was over.
type tooFewError struct{ text string }

func (e *tooFewError) Error() string { return e.text }

// awaitEndpoints waits until a name has enough endpoints. It returns a [tooFewError] at the
// deadline of ctx, and a permanent error at once. On a terminal it says what it waits for.
func (a *app) awaitEndpoints(ctx context.Context, agent *api.Client, name string, least int) error {
	var backoff retry.Backoff
	var o api.LookupOptions
	missing, said := "the agent has not answered", ""
	say := func() {
		if missing != said {
			a.progressf("waiting: %s", missing)
			said = missing
		}
	}
	for {
		answer, view, err := agent.Lookup(ctx, name, o)
		switch {
		case ctx.Err() != nil:
			return waitEnded(ctx, missing)
		case err == nil && len(answer.Endpoints) >= least:
			return nil
		case err == nil:
			missing = fmt.Sprintf("%s has %d of %d endpoints; %s", name, len(answer.Endpoints), least, describeMissing(answer))
			o.Wait = api.Wait{Index: view.Index, For: api.DefaultWait}
			backoff.Reset()
			say()
			continue
		case errors.Is(err, discovery.ErrNotFound):
			missing, o.Wait = err.Error(), api.Wait{For: api.DefaultWait}
		case worthRetrying(err):
			missing, o.Wait = err.Error(), api.Wait{}
		default:
			return err
		}
		say()
		backoff.Failed()
		if backoff.Wait(ctx) != nil {
			return waitEnded(ctx, missing)
		}
	}
}

// waitEnded returns the error of a wait that ctx ended: what was missing at the deadline,
// or that the wait was canceled.
func waitEnded(ctx context.Context, missing string) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &tooFewError{missing}
	}
	return stoppedWhile(ctx, nil, "waiting: %s", missing)
}
