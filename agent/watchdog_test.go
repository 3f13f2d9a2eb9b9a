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

// supervise runs a component in the background. The channel gets what the watchdog returns.
func supervise(ctx context.Context, w *watchdog, run func(context.Context, *heartbeat.Heartbeat) error) chan error {
	done := make(chan error, 1)
	beats := &heartbeat.Heartbeat{}
	go func() {
		done <- w.supervise(ctx, component{"registry", beats, func(ctx context.Context) error { return run(ctx, beats) }})
	}()
	return done
}

func testWatchdog(t *testing.T) *watchdog {
	return etcdtest.Must(newWatchdog(prometheus.NewRegistry(), slog.New(slog.NewTextHandler(t.Output(), nil))))
}

func TestStuckComponentIsRestarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var starts atomic.Int32
		done := supervise(ctx, testWatchdog(t), func(ctx context.Context, p *heartbeat.Heartbeat) error {
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
			t.Fatalf("started %d times too early", starts.Load())
		}
		time.Sleep(2 * watchdogInterval)
		synctest.Wait()
		if starts.Load() != 2 {
			t.Errorf("started %d times, want 2", starts.Load())
		}
		time.Sleep(time.Hour) // it is idle, which is not stuck
		synctest.Wait()
		if starts.Load() != 2 {
			t.Errorf("started %d times in an idle hour", starts.Load())
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A component that is always busy, but with one thing after the other, is not stuck.
func TestBusyComponentIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		starts := 0
		done := supervise(ctx, testWatchdog(t), func(ctx context.Context, p *heartbeat.Heartbeat) error {
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

// A stuck component that does not stop cannot be restarted: the agent is not alive until it
// stops after all.
func TestComponentThatDoesNotStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := testWatchdog(t)
		ctx, cancel := context.WithCancel(t.Context())
		hung := make(chan struct{})
		done := supervise(ctx, w, func(ctx context.Context, p *heartbeat.Heartbeat) error {
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

// The agent stops although a component does not.
func TestStopAbandonsStuckComponent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		hung := make(chan struct{})
		defer close(hung)
		done := supervise(ctx, testWatchdog(t), func(_ context.Context, p *heartbeat.Heartbeat) error {
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
