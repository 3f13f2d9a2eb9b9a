package cli

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"disc/agent/api"
	"disc/discovery"
)

func (a *app) limitTakeCommand() *cobra.Command {
	var wait time.Duration
	c := &cobra.Command{
		Use:   "take NAME [TOKENS]",
		Short: "Take tokens of a limit",
		Long: `Take tokens of a limit, by default one. Exit code 0 if they are granted, 1 if they are
denied, 4 if they are still denied after --wait.`,
		Example: `  disc limit take sms && send-sms
  disc limit take sms 10 --wait 5s`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeLimit,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := discovery.ValidateLimit(args[0]); err != nil {
				return usage(err)
			}
			n := int64(1)
			if len(args) == 2 {
				var err error
				if n, err = strconv.ParseInt(args[1], 10, 64); err != nil || n < 1 {
					return usage(fmt.Errorf("%q is not a number of tokens; take 1 or more", args[1]))
				}
			}
			client, err := a.agent(cmd.Context())
			if err != nil {
				return err
			}
			return a.takeWithRetry(cmd.Context(), client, args[0], n, wait)
		},
	}
	c.Flags().DurationVar(&wait, "wait", 0, "maximum time to retry for (default: do not retry)")
	return c
}

// takeWithRetry takes n tokens. If they are denied, it retries for the time of wait.
func (a *app) takeWithRetry(ctx context.Context, client *api.Client, name string, n int64, wait time.Duration) error {
	if wait > 0 {
		defer a.progressLater("waiting for %s of limit %q", countOf(int(n), "token"), name)()
	}
	for until := time.Now().Add(wait); ; {
		t, err := takeOnce(ctx, client, name, n)
		switch {
		case err != nil && wait > 0 && ctx.Err() != nil:
			return stoppedWhile(ctx, err, "waiting for limit %q", name)
		case err != nil:
			return err
		}
		if t.Taken > 0 {
			return a.showTaken(t)
		}
		again := time.Duration(t.RetryAfter)
		switch left := time.Until(until); {
		case wait == 0:
			return a.showDenied(t)
		case left < again:
			return fmt.Errorf("%w: %s", errTimedOut, t.Reason)
		}
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return stoppedWhile(ctx, nil, "waiting for limit %q: %s", name, t.Reason)
		}
	}
}

func takeOnce(ctx context.Context, client *api.Client, name string, n int64) (api.Taken, error) {
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	return client.Take(ctx, name, n)
}

// showTaken prints a take that was granted.
func (a *app) showTaken(t api.Taken) error {
	if t.Unavailable {
		a.infof("%s", t.Reason)
	}
	return show(a, takenListing(t, fmt.Sprintf("%s: %d taken, %d left", printable(t.Name), t.Taken, t.Remaining)))
}

// showDenied prints a take that was denied and the reason. It returns an error.
func (a *app) showDenied(t api.Taken) error {
	a.infof("%s", t.Reason)
	if !a.printsTable() {
		if err := show(a, takenListing(t, "")); err != nil {
			return err
		}
	}
	return exitWith(exitFailed)
}

func takenListing(t api.Taken, line string) listing[api.Taken] {
	return listing[api.Taken]{items: []api.Taken{t}, single: true, line: line, name: func(t api.Taken) string { return t.Name }}
}
