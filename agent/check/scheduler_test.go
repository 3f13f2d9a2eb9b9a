package check

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"disc/discovery"
)

func TestIntervalAndHungCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs []time.Time
		var running, most atomic.Int32
		good := proberFunc(func(context.Context) result {
			runs = append(runs, time.Now())
			return result{discovery.Passing, ""}
		})
		hung := proberFunc(func(ctx context.Context) result {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			return hangs(ctx)
		})
		r := registration("good", "hung")
		r.Checks[1].Timeout = r.Checks[1].Interval // no pause between its runs
		began := time.Now()
		stop := start(t, newSet(t, newScheduler(t, Options{}), r, SetOptions{}, good, hung).Run)
		time.Sleep(200 * time.Second)
		stop()
		if len(runs) < 19 || len(runs) > 22 || !runs[0].Equal(began) {
			t.Errorf("%d runs in 200s, the first after %v; want about 20 and none", len(runs), runs[0].Sub(began))
		}
		for n := range len(runs) - 1 {
			if pause := runs[n+1].Sub(runs[n]); pause < 9500*time.Millisecond || pause > 10500*time.Millisecond {
				t.Errorf("run %d came after %v, want 10s ±5%%", n+1, pause)
			}
		}
		if most.Load() != 1 {
			t.Errorf("%d runs of one check at a time", most.Load())
		}
	})
}

func TestConcurrencyIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		scheduler := newScheduler(t, Options{Probes: 5, Execs: 2, Registerer: registry})
		var running, execs, most, mostExecs atomic.Int32
		count := func(exec bool) proberFunc {
			return func(ctx context.Context) result {
				most.Store(max(most.Load(), running.Add(1)))
				defer running.Add(-1)
				if exec {
					mostExecs.Store(max(mostExecs.Load(), execs.Add(1)))
					defer execs.Add(-1)
				}
				return hangs(ctx)
			}
		}
		r := registration()
		for n := range 20 {
			spec := discovery.CheckSpec{ID: fmt.Sprint(n), Type: discovery.CheckTCP}
			if n%2 == 0 {
				spec = discovery.CheckSpec{ID: fmt.Sprint(n), Type: discovery.CheckExec, Command: []string{"true"}}
			}
			r.Checks = append(r.Checks, spec)
		}
		set := newSet(t, scheduler, r.WithDefaults("127.0.0.1", ""), SetOptions{})
		for _, c := range set.checks {
			c.prober = count(c.spec.Type == discovery.CheckExec)
		}
		stop := start(t, set.Run)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := valueOf(t, scheduler.metrics.running); got != 5 {
			t.Errorf("the gauge says %v, want 5", got)
		}
		time.Sleep(time.Minute)
		for _, s := range set.Checks() {
			if s.LastRun.IsZero() {
				t.Errorf("check %s had no turn in a minute", s.ID)
			}
		}
		stop()
		if most.Load() != 5 || mostExecs.Load() != 2 {
			t.Errorf("at most %d at a time, of which exec %d; want 5 and 2", most.Load(), mostExecs.Load())
		}
	})
}

func TestManyFirstRunsAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		scheduler := newScheduler(t, Options{})
		var delays []time.Duration
		for range 100 {
			delays = append(delays, scheduler.startDelay(10*time.Second))
		}
		if slices.Max(delays[:freeStarts]) != 0 {
			t.Errorf("the first ones wait: %v", delays[:freeStarts])
		}
		slices.Sort(delays)
		if delays[50] == 0 || delays[99] >= startWindow || delays[99] < startWindow/2 {
			t.Errorf("median %v, longest %v", delays[50], delays[99])
		}
		if d := scheduler.startDelay(100 * time.Millisecond); d >= 100*time.Millisecond {
			t.Errorf("a check of 100ms waits %v", d)
		}
		time.Sleep(2 * startWindow)
		if d := scheduler.startDelay(time.Minute); d != 0 {
			t.Errorf("a lone check waits %v", d)
		}
	})
}
