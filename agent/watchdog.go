package agent

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"disc/discovery/heartbeat"
	"disc/discovery/telemetry"
)

// How the watchdog looks: every piece of work of a part is bounded by some seconds, so
// that one seen in so many looks in a row does not end any more.
const (
	watchdogInterval = 10 * time.Second
	stuckAfter       = 6
	// stopTimeout is how long a part that is stuck may take to give up.
	stopTimeout = 10 * time.Second
)

// maxStacks bounds the goroutines' stacks in the log, in bytes.
const maxStacks = 32 << 10

// component is one of the agent's loops. Its run can be called again after it has returned.
type component struct {
	name      string
	heartbeat *heartbeat.Heartbeat
	run       func(context.Context) error
}

// watchdog runs parts, and runs one that is stuck anew. What does not even give up is
// beyond its reach: the agent goes on answering with what works, and says that it is
// not alive, so that whoever runs it (systemd, Kubernetes) starts it again.
type watchdog struct {
	log      *slog.Logger
	restarts *prometheus.CounterVec

	mu    sync.Mutex
	stuck map[string]bool
}

func newWatchdog(metrics prometheus.Registerer, log *slog.Logger) (*watchdog, error) {
	w := &watchdog{log: log, stuck: map[string]bool{}, restarts: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "disc_part_restarts_total", Help: "Parts of the agent that were stuck and were started anew."}, []string{"part"})}
	err := telemetry.Register(metrics, w.restarts, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "disc_parts_stuck", Help: "Parts of the agent that are stuck and do not give up; the agent has to be restarted."},
		func() float64 { return float64(len(w.stuckNames())) }))
	return w, err
}

// supervise runs a part until ctx ends or the part returns by itself.
func (w *watchdog) supervise(ctx context.Context, p component) error {
	for {
		running, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- p.run(running) }()
		err, ended := w.monitor(ctx, p, done)
		stop()
		if ended {
			return err
		}
		w.log.Error("a part of the agent is stuck; starting it anew", "part", p.name, "stacks", goroutineStacks())
		if !w.awaitStop(ctx, p, done) {
			return nil
		}
		w.restarts.WithLabelValues(p.name).Inc()
	}
}

// monitor looks at a running part until it has returned, with its error, or is stuck. One
// that does not return when ctx ends is left behind.
func (w *watchdog) monitor(ctx context.Context, p component, done <-chan error) (err error, ended bool) {
	looks := time.NewTicker(watchdogInterval)
	defer looks.Stop()
	var last uint64
	for seen := 0; ; {
		select {
		case err := <-done:
			return err, true
		case <-ctx.Done():
			select {
			case err := <-done:
				return err, true
			case <-time.After(stopTimeout):
				return fmt.Errorf("the agent's part %s does not stop; leaving it behind", p.name), true
			}
		case <-looks.C:
		}
		beat, working := p.heartbeat.Beat()
		if !working || beat != last {
			last, seen = beat, 0
			continue
		}
		if seen++; seen == stuckAfter {
			return nil, false
		}
	}
}

// awaitStop waits for a part that was told to give up, however long that takes, and reports
// whether it did before ctx ended.
func (w *watchdog) awaitStop(ctx context.Context, p component, done <-chan error) bool {
	select {
	case <-done:
		return true
	case <-time.After(stopTimeout):
	}
	w.log.Error("a part of the agent is stuck and does not give up; restart the agent", "part", p.name)
	w.setStuck(p.name, true)
	defer w.setStuck(p.name, false)
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

func (w *watchdog) setStuck(name string, stuck bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if stuck {
		w.stuck[name] = true
	} else {
		delete(w.stuck, name)
	}
}

// stuckNames returns the parts that are stuck for good, sorted.
func (w *watchdog) stuckNames() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.stuck))
}

// alive fails, with their names, when parts are stuck for good.
func (w *watchdog) alive() error {
	if names := w.stuckNames(); len(names) > 0 {
		return fmt.Errorf("stuck: %s; restart the agent", strings.Join(names, ", "))
	}
	return nil
}

// goroutineStacks returns what all goroutines are doing, those that do the same counted.
func goroutineStacks() string {
	var b bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&b, 1); err != nil {
		return err.Error()
	}
	return string(b.Bytes()[:min(b.Len(), maxStacks)])
}
