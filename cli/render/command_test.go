package render_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"disc/cli/render"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRunnerRunsOnceForABurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, overlaps, runs atomic.Int32
		runner := render.NewRunner(func(context.Context, int) error {
			runs.Add(1)
			if running.Add(1) > 1 {
				overlaps.Add(1)
			}
			time.Sleep(time.Minute) // of the bubble's clock
			running.Add(-1)
			return nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- runner.Run(ctx) }()
		for range 5 {
			runner.Request()
		}
		synctest.Wait()
		if got := runs.Load(); got != 1 {
			t.Errorf("a burst: got %d runs, want 1", got)
		}
		for range 5 {
			runner.Request()
		}
		synctest.Wait()
		if got := runs.Load(); got != 1 {
			t.Errorf("started again while running: got %d runs", got)
		}
		cancel() // a requested run still takes place
		if err := <-ended; err != nil || runs.Load() != 2 || running.Load() != 0 || overlaps.Load() != 0 {
			t.Errorf("got %d runs, %d beside another, %d at the end (%v); want 2, 0, 0", runs.Load(), overlaps.Load(), running.Load(), err)
		}
	})
}

// TestRunnerRepeatsAFailedRun expects that a run is repeated until it succeeds, and that a request
// begins anew.
func TestRunnerRepeatsAFailedRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failures []int
		wrong := errors.New("wrong")
		runner := render.NewRunner(func(_ context.Context, n int) error {
			failures = append(failures, n)
			if len(failures) == 4 || len(failures) > 5 {
				return nil
			}
			return wrong
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- runner.Run(ctx) }()
		runner.Request()
		time.Sleep(time.Hour) // of the bubble's clock
		runner.Request()
		time.Sleep(time.Hour)
		cancel()
		if err := <-ended; err != nil || !slices.Equal(failures, []int{0, 1, 2, 3, 0, 1}) {
			t.Errorf("got %v (%v)", failures, err)
		}
	})
}

func TestCommand(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	c := render.Command{Line: "cat; echo two >&2", Stdin: strings.NewReader("one\n"), Stdout: &out, Stderr: &out}
	if err := c.Run(t.Context()); err != nil || out.String() != "one\ntwo\n" {
		t.Errorf("got %q (%v)", out.String(), err)
	}
	for line, want := range map[string]string{
		"exit 3":                               `run "exit 3": exit status 3`,
		"nonsense 2>&-":                        "exit status 127",
		"sleep 1000 & wait":                    "stopped after 50ms",
		"trap '' TERM; sleep 1000; sleep 1000": "stopped after 50ms",
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			limit := time.Minute
			if strings.Contains(line, "sleep") {
				limit = 50 * time.Millisecond
			}
			if err := (render.Command{Line: line, Limit: limit}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want %q", line, err, want)
			}
		})
	}
}
