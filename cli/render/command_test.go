package render_test

import (
	"context"
	"io"
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
		runner := render.NewRunner(func(context.Context) {
			runs.Add(1)
			if running.Add(1) > 1 {
				overlaps.Add(1)
			}
			time.Sleep(time.Minute) // of the bubble's clock
			running.Add(-1)
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

func TestShell(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := render.Shell(t.Context(), "echo one; echo two >&2", &out, time.Minute); err != nil || out.String() != "one\ntwo\n" {
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
			if err := render.Shell(t.Context(), line, io.Discard, limit); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want %q", line, err, want)
			}
		})
	}
}
