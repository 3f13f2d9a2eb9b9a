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

// The watchdog's timing. Each piece of work of a component is bounded to some seconds, so that
// one that is seen at so many intervals in a row will not end.
const (
	watchdogInterval = 10 * time.Second
	stuckAfter       = 6 // intervals
	// stopTimeout is how long a stuck component may take to stop.
	stopTimeout = 10 * time.Second
)

// maxStacks is the most bytes of goroutine stacks in the log.
const maxStacks = 32 << 10

// component is a loop of the agent. Its run may be called again after it has returned.
type component struct {
	name      string
	heartbeat *heartbeat.Heartbeat
	run       func(context.Context) error
}

// watchdog supervises components: it restarts one that is stuck. If a stuck component does not
// stop, the agent keeps answering with the others and reports that it is not alive, so that
// its supervisor (systemd, Kubernetes) restarts it.
type watchdog struct {
	log      *slog.Logger
	restarts *prometheus.CounterVec

	mu    sync.Mutex
	stuck map[string]bool // components that do not stop, by name
}

func newWatchdog(metrics prometheus.Registerer, log *slog.Logger) (*watchdog, error) {
	w := &watchdog{log: log, stuck: map[string]bool{}, restarts: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "disc_part_restarts_total", Help: "Restarts of components of the agent that were stuck."}, []string{"part"})}
	err := telemetry.Register(metrics, w.restarts, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "disc_parts_stuck", Help: "Components of the agent that are stuck and do not stop; restart the agent."},
		func() float64 { return float64(len(w.stuckNames())) }))
	return w, err
}

// supervise runs a component until ctx ends or it returns by itself.
func (w *watchdog) supervise(ctx context.Context, c component) error {
	for {
		running, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- c.run(running) }()
		ended, err := w.monitor(ctx, c, done)
		stop()
		if ended {
			return err
		}
		w.log.Error("a component of the agent is stuck; restarting it", "part", c.name, "stacks", goroutineStacks())
		if !w.awaitStop(ctx, c, done) {
			return nil
		}
		w.restarts.WithLabelValues(c.name).Inc()
	}
}

// monitor watches a running component until it has returned (ended, with its error) or is
// stuck. It abandons one that does not return in time when ctx ends.
func (w *watchdog) monitor(ctx context.Context, c component, done <-chan error) (ended bool, err error) {
	ticker := time.NewTicker(watchdogInterval)
	defer ticker.Stop()
	var last uint64
	for seen := 0; ; {
		select {
		case err := <-done:
			return true, err
		case <-ctx.Done():
			select {
			case err := <-done:
				return true, err
			case <-time.After(stopTimeout):
				return true, fmt.Errorf("the agent's component %s does not stop; abandoning it", c.name)
			}
		case <-ticker.C:
		}
		beat, working := c.heartbeat.Beat()
		if !working || beat != last {
			last, seen = beat, 0
			continue
		}
		if seen++; seen == stuckAfter {
			return false, nil
		}
	}
}

// awaitStop waits until a canceled component stops, however long that takes, and reports whether
// it did before ctx ended.
func (w *watchdog) awaitStop(ctx context.Context, c component, done <-chan error) bool {
	select {
	case <-done: //nolint:errcheck // a canceled component has nothing to say
		return true
	case <-time.After(stopTimeout):
	}
	w.log.Error("a component of the agent is stuck and does not stop; restart the agent", "part", c.name)
	w.setStuck(c.name, true)
	defer w.setStuck(c.name, false)
	select {
	case <-done: //nolint:errcheck // a canceled component has nothing to say
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

// stuckNames returns the names of the components that do not stop, sorted.
func (w *watchdog) stuckNames() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.stuck))
}

// alive returns an error that names the components that do not stop; nil if there are none.
func (w *watchdog) alive() error {
	if names := w.stuckNames(); len(names) > 0 {
		return fmt.Errorf("stuck: %s; restart the agent", strings.Join(names, ", "))
	}
	return nil
}

// goroutineStacks returns the stacks of all goroutines, equal ones counted, at most maxStacks
// bytes.
func goroutineStacks() string {
	var b bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&b, 1); err != nil {
		return err.Error()
	}
	return string(b.Bytes()[:min(b.Len(), maxStacks)])
}
