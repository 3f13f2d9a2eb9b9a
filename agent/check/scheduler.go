package check

import (
	"context"
	"crypto/x509"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"disc/discovery"
)

// Limits on the checks that one agent runs at once.
const (
	DefaultProbes = 32 // of all types
	DefaultExecs  = 8  // of type exec
)

// Options of a scheduler. The zero value is useful.
type Options struct {
	Probes     int                   // checks run at once; default 32
	Execs      int                   // exec checks run at once; default 8
	RootCAs    *x509.CertPool        // CAs for https and for grpc over TLS; default: the system's
	Advertised string                // this host's address for others, which restricted checks may probe too
	Networks   []netip.Prefix        // that restricted checks may probe too; see [SetOptions.Restricted]
	Logger     *slog.Logger          // default: discards
	Registerer prometheus.Registerer // nil: the metrics are not registered
}

// Scheduler runs the checks of one agent. It bounds how many run at once and spreads the first
// runs of those that start together.
type Scheduler struct {
	probes, execs *semaphore.Weighted
	roots         *x509.CertPool
	targets       *targets
	logger        *slog.Logger
	metrics       *metrics

	mu          sync.Mutex
	windowStart time.Time // of the starts that started counts
	started     int
}

// NewScheduler returns a scheduler. It fails when the registerer refuses the metrics, as one
// that already has them does.
func NewScheduler(o Options) (*Scheduler, error) {
	if o.Probes <= 0 {
		o.Probes = DefaultProbes
	}
	if o.Execs <= 0 {
		o.Execs = DefaultExecs
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	return &Scheduler{
		probes:  semaphore.NewWeighted(int64(o.Probes)),
		execs:   semaphore.NewWeighted(int64(o.Execs)),
		roots:   o.RootCAs,
		targets: newTargets(o.Advertised, o.Networks),
		logger:  o.Logger,
		metrics: m,
	}, nil
}

const (
	startWindow = time.Second // that the first runs of many new checks are spread over
	freeStarts  = 4           // in a window that run without delay
)

// startDelay returns how long a new check waits for its first run: nothing unless many start
// in the same window, and never longer than its interval.
func (s *Scheduler) startDelay(interval time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.windowStart) > startWindow {
		s.windowStart, s.started = now, 0
	}
	s.started++
	if s.started <= freeStarts {
		return 0
	}
	return rand.N(min(interval, startWindow))
}

// acquire waits, in order of arrival, until a check may run. The caller calls release when the
// run has ended. acquire fails only with the error of ctx.
func (s *Scheduler) acquire(ctx context.Context, kind discovery.CheckType) (release func(), err error) {
	if kind == discovery.CheckExec {
		// First of its own type: an exec check that waits for others must not hold a place
		// that a network check could use.
		if err := s.execs.Acquire(ctx, 1); err != nil {
			return nil, err
		}
	}
	if err := s.probes.Acquire(ctx, 1); err != nil {
		if kind == discovery.CheckExec {
			s.execs.Release(1)
		}
		return nil, err
	}
	s.metrics.running.Inc()
	return func() {
		s.metrics.running.Dec()
		s.probes.Release(1)
		if kind == discovery.CheckExec {
			s.execs.Release(1)
		}
	}, nil
}

// jitter returns a random duration within d ±5 %, so that checks that start together drift
// apart.
func jitter(d time.Duration) time.Duration {
	return d - d/20 + rand.N(d/10+1)
}
