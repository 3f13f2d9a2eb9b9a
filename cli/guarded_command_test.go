package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"disc/discovery"
)

// The error must tell what ended the grant.
func TestLossIsNamed(t *testing.T) {
	const valid, lead = 16 * time.Second, 4 * time.Second
	silent := func(ctx context.Context, _ *deadline) (time.Duration, error) {
		<-ctx.Done()
		return 0, fmt.Errorf("%w: %w", errNoAnswer, ctx.Err())
	}
	gone := discovery.Errorf(discovery.ErrLost, "instance %q is gone", "gpu-1")
	for name, c := range map[string]struct {
		watch error // of the connection; nil: it stays open
		renew func(context.Context, *deadline) (time.Duration, error)
		want  string
		after time.Duration
	}{
		"the agent's session with etcd": {want: "the agent has lost its session with etcd", after: valid - lead,
			renew: func(ctx context.Context, d *deadline) (time.Duration, error) { return d.untilEnd(), ctx.Err() }},
		"the agent": {want: errNoAnswer.Error(), after: valid - lead, renew: silent},
		"the instance": {want: gone.Error(), after: time.Second,
			renew: func(context.Context, *deadline) (time.Duration, error) { return 0, gone }},
		"the connection": {want: "a lock is lost with the connection: reset", watch: errors.New("reset"),
			renew: func(context.Context, *deadline) (time.Duration, error) { return time.Hour, nil }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				closed := make(chan struct{})
				defer close(closed)
				began := time.Now()
				d := &deadline{now: func() time.Duration { return time.Since(began) }, end: valid, lead: lead}
				g := guardedCommand{grant: "a lock", renew: func(ctx context.Context) (time.Duration, error) { return c.renew(ctx, d) }, awaitEnd: func() error {
					if c.watch == nil {
						<-closed
					}
					return c.watch
				}}
				err := g.watchGrant(t.Context(), d)
				if !errors.Is(err, discovery.ErrLost) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want an ErrLost with %q", err, c.want)
				}
				if took := time.Since(began); took != c.after {
					t.Errorf("it ended after %v, want %v", took, c.after)
				}
			})
		})
	}
}

// A command that ends by itself, after its grant was lost, fails with the reason. The test runs in a process of
// its own, since a process with a guarded command reaps all its children.
func TestLossIsSeenAtRelease(t *testing.T) {
	t.Parallel()
	const alone = "DISC_TEST_ALONE"
	if os.Getenv(alone) == "" {
		c := exec.Command(os.Args[0], "-test.run=^TestLossIsSeenAtRelease$")
		c.Env = append(os.Environ(), alone+"=1")
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	gone := discovery.Errorf(discovery.ErrLost, "lock %q is lost: it was broken", "x")
	for name, c := range map[string]struct {
		release error
		exit    int
	}{
		"lost":            {gone, exitConflict},
		"not lost":        {nil, 7},
		"the agent fails": {errNoAnswer, 7},
	} {
		t.Run(name, func(t *testing.T) {
			closed := make(chan struct{})
			defer close(closed)
			a := &app{io: &IO{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard}}
			err := a.runGuarded(t.Context(), guardedCommand{
				grant: "a lock", killTimeout: time.Minute,
				awaitEnd: func() error { <-closed; return nil },
				renew:    func(context.Context) (time.Duration, error) { return time.Hour, nil },
				release:  func(context.Context) error { return c.release },
			}, []string{"sh", "-c", "exit 7"}, nil)
			if exitCode(err) != c.exit || errors.Is(err, discovery.ErrLost) != (c.release == gone) {
				t.Errorf("got %v, exit code %d, want %d", err, exitCode(err), c.exit)
			}
		})
	}
}
