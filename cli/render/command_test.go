package render_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"disc/cli/render"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRunnerRunsOnceForABurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		running, most, runs := 0, 0, 0
		runner := render.NewRunner(func(context.Context) {
			running++
			runs, most = runs+1, max(most, running)
			time.Sleep(time.Minute) // of the bubble's clock
			running--
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- runner.Run(ctx) }()
		for range 5 {
			runner.Request()
		}
		synctest.Wait()
		if runs != 1 {
			t.Errorf("a burst: got %d runs, want 1", runs)
		}
		for range 5 {
			runner.Request()
		}
		synctest.Wait()
		if runs != 1 {
			t.Errorf("it was started again while it ran: got %d runs", runs)
		}
		cancel() // what was asked for is still run
		if err := <-ended; err != nil || runs != 2 || running != 0 || most != 1 {
			t.Errorf("got %d runs, %d at once, %d at the end (%v); want 2, 1, 0", runs, most, running, err)
		}
	})
}

func TestShell(t *testing.T) {
	var out strings.Builder
	if err := render.Shell(t.Context(), "echo one; echo two >&2", &out, time.Minute); err != nil || out.String() != "one\ntwo\n" {
		t.Errorf("got %q (%v)", out.String(), err)
	}
	for line, want := range map[string]string{
		"exit 3":                               `run "exit 3": exit status 3`,
		"nonsense 2>&-":                        "exit status 127",
		"sleep 1000 & wait":                    "it was stopped after 50ms",
		"trap '' TERM; sleep 1000; sleep 1000": "it was stopped after 50ms",
	} {
		limit := time.Minute
		if strings.Contains(line, "sleep") {
			limit = 50 * time.Millisecond
		}
		if err := render.Shell(t.Context(), line, &out, limit); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", line, err, want)
		}
	}
}
