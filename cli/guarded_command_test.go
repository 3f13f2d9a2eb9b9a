package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"disc/discovery"
)

// The error must tell what ended the grant.
func TestLossIsNamed(t *testing.T) {
	const valid, lead = 1600 * time.Millisecond, 400 * time.Millisecond
	silent := func(ctx context.Context) (time.Duration, error) {
		<-ctx.Done()
		return 0, fmt.Errorf("%w: %w", errNoAnswer, ctx.Err())
	}
	gone := discovery.Errorf(discovery.ErrLost, "instance %q is gone", "gpu-1")
	for name, c := range map[string]struct {
		watch error // of the connection; nil: it stays open
		renew func(end time.Duration) func(context.Context) (time.Duration, error)
		want  string
		early bool // the error comes before the deadline
	}{
		"the agent's session with etcd": {want: "the agent has lost its session with etcd",
			renew: func(end time.Duration) func(context.Context) (time.Duration, error) {
				return func(ctx context.Context) (time.Duration, error) { return end - uptime(), ctx.Err() }
			}},
		"the agent": {want: errNoAnswer.Error(),
			renew: func(time.Duration) func(context.Context) (time.Duration, error) { return silent }},
		"the instance": {want: gone.Error(), early: true,
			renew: func(time.Duration) func(context.Context) (time.Duration, error) {
				return func(context.Context) (time.Duration, error) { return 0, gone }
			}},
		"the connection": {want: "a lock is lost with the connection: reset", early: true, watch: errors.New("reset"),
			renew: func(time.Duration) func(context.Context) (time.Duration, error) {
				return func(context.Context) (time.Duration, error) { return time.Hour, nil }
			}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			closed := make(chan struct{})
			defer close(closed)
			d := &deadline{end: uptime() + valid, lead: lead}
			g := guardedCommand{grant: "a lock", renew: c.renew(d.end), awaitEnd: func() error {
				if c.watch == nil {
					<-closed
				}
				return c.watch
			}}
			err := g.watchGrant(t.Context(), d)
			if !errors.Is(err, discovery.ErrLost) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an ErrLost with %q", err, c.want)
			}
			if !c.early && d.untilStop() > 0 {
				t.Errorf("it ended %v too early", d.untilStop())
			}
		})
	}
}
