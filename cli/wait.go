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
		Long: `Wait until this host's agent answers a name with as many endpoints as are wanted.

Exit code 4 when that does not come in time.`,
		Example: `  disc wait web
  disc wait web --min 2 --timeout 30s`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.wait(cmd.Context(), args[0], o)
		},
	}
	c.Flags().IntVar(&o.least, "min", 1, "so many endpoints")
	c.Flags().DurationVar(&o.timeout, "timeout", time.Minute, "at most this long; 0: for ever")
	return c
}

func (a *app) wait(ctx context.Context, name string, o waitOptions) error {
	if o.least < 1 || o.timeout < 0 {
		return usage(fmt.Errorf("--min is at least 1 and --timeout at least 0"))
	}
	agent, err := a.agent(ctx)
	if err != nil {
		return err
	}
	if o.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.timeout)
		defer cancel()
	}
	err = awaitEndpoints(ctx, agent, name, o.least)
	if e := (*tooFewError)(nil); errors.As(err, &e) {
		return fmt.Errorf("%w after %v: %w", errTimedOut, o.timeout, e)
	}
	return err
}

// tooFewError is what was missing when the waiting ended.
type tooFewError struct{ text string }

func (e *tooFewError) Error() string { return e.text }

// awaitEndpoints returns when a name has at least so many endpoints, after an error that
// will not go away, or with what is missing when ctx ends.
func awaitEndpoints(ctx context.Context, agent *api.Client, name string, least int) error {
	var retry retry.Backoff
	var o api.LookupOptions
	missing := "the agent has not answered"
	for {
		answer, view, err := agent.Lookup(ctx, name, o)
		switch {
		case ctx.Err() != nil:
			return waitEnded(ctx, missing)
		case err == nil && len(answer.Endpoints) >= least:
			return nil
		case err == nil:
			missing = fmt.Sprintf("%s has %d of %d endpoints; %s", name, len(answer.Endpoints), least, describeLeftOut(answer))
			o.Wait = api.Wait{Index: view.Index, For: api.DefaultWait}
			retry.Reset()
			continue
		case errors.Is(err, discovery.ErrNotFound):
			missing, o.Wait = err.Error(), api.Wait{For: api.DefaultWait}
		case errors.Is(err, discovery.ErrUnavailable):
			missing, o.Wait = err.Error(), api.Wait{}
		default:
			return err
		}
		retry.Failed()
		if retry.Wait(ctx) != nil {
			return waitEnded(ctx, missing)
		}
	}
}

// waitEnded is the error of a wait that ctx ended: what was missing, if time was short.
func waitEnded(ctx context.Context, missing string) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &tooFewError{missing}
	}
	return ctx.Err()
}
