package agent

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/heartbeat"
)

// loop is a part whose run is a function of the test.
func loop(w *watchdog, ctx context.Context, run func(context.Context, *heartbeat.Heartbeat) error) chan error {
	done := make(chan error, 1)
	pulse := &heartbeat.Heartbeat{}
	go func() {
		done <- w.supervise(ctx, component{"registry", pulse, func(ctx context.Context) error { return run(ctx, pulse) }})
	}()
	return done
}

func quietWatchdog(t *testing.T) *watchdog {
	return etcdtest.Must(newWatchdog(prometheus.NewRegistry(), slog.New(slog.NewTextHandler(t.Output(), nil))))
}

func TestStuckPartIsStartedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var starts atomic.Int32
		done := loop(quietWatchdog(t), ctx, func(ctx context.Context, p *heartbeat.Heartbeat) error {
			if starts.Add(1) == 1 {
				p.Begin() // and never again
			}
			<-ctx.Done()
			p.End()
			return nil
		})
		time.Sleep(stuckAfter * watchdogInterval)
		synctest.Wait()
		if starts.Load() != 1 {
			t.Fatalf("started %d times before the time was up", starts.Load())
		}
		time.Sleep(2 * watchdogInterval)
		synctest.Wait()
		if starts.Load() != 2 {
			t.Errorf("started %d times, want 2", starts.Load())
		}
		time.Sleep(time.Hour) // it rests, and is left alone
		synctest.Wait()
		if starts.Load() != 2 {
			t.Errorf("started %d times in an hour of rest", starts.Load())
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A part that works on and on, but on one thing after the other, is not stuck.
func TestBusyPartIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		starts := 0
		done := loop(quietWatchdog(t), ctx, func(ctx context.Context, p *heartbeat.Heartbeat) error {
			for starts++; ctx.Err() == nil; p.Begin() {
				time.Sleep(5 * time.Second)
			}
			return nil
		})
		if err := <-done; err != nil || starts != 1 {
			t.Errorf("%d starts, %v", starts, err)
		}
	})
}

// A part that does not give up cannot be started anew: the agent says so, and is alive
// again when the part comes back after all.
func TestPartThatDoesNotGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := quietWatchdog(t)
		ctx, cancel := context.WithCancel(t.Context())
		hung := make(chan struct{})
		done := loop(w, ctx, func(ctx context.Context, p *heartbeat.Heartbeat) error {
			p.Begin()
			<-hung
			p.End()
			<-ctx.Done()
			return nil
		})
		time.Sleep(time.Hour)
		if err := w.alive(); err == nil || !strings.Contains(err.Error(), "stuck: registry") {
			t.Errorf("alive says %v", err)
		}
		close(hung)
		synctest.Wait()
		if err := w.alive(); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// The agent stops although a part does not.
func TestStopLeavesStuckPartBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		hung := make(chan struct{})
		defer close(hung)
		done := loop(quietWatchdog(t), ctx, func(_ context.Context, p *heartbeat.Heartbeat) error {
			p.Begin()
			<-hung
			return nil
		})
		cancel()
		if err := <-done; err == nil || !strings.Contains(err.Error(), "registry does not stop") {
			t.Errorf("got %v", err)
		}
	})
}
