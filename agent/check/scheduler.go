package check

import (
	"context"
	"crypto/x509"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"disc/discovery"
)

// Limits of what one agent runs at once.
const (
	DefaultProbes = 32 // checks of all types
	DefaultExecs  = 8  // of which exec
)

// Options of a scheduler. The zero value is useful.
type Options struct {
	Probes     int                   // checks run at once; default 32
	Execs      int                   // exec checks run at once; default 8
	RootCAs    *x509.CertPool        // verify https and grpc over TLS; default the system's
	Logger     *slog.Logger          // default: discards
	Registerer prometheus.Registerer // default: metrics are registered nowhere
}

// Scheduler is what the checks of one agent share: the bounds on what runs at once,
// the spread of first runs, the logger and the metrics.
type Scheduler struct {
	probes, execs *semaphore.Weighted
	roots         *x509.CertPool
	logger        *slog.Logger
	metrics       *metrics

	mu          sync.Mutex
	windowStart time.Time // since when starts are counted
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
		logger:  o.Logger,
		metrics: m,
	}, nil
}

const (
	startWindow = time.Second // over which many first runs are spread
	freeStarts  = 4           // first runs within that time that need no spreading
)

// startDelay is how long a new check waits for its first run: nothing, unless many
// begin at the same time.
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

// acquire waits, first come first served, until a check may run, and returns what
// gives its place back. The error is that of ctx.
func (s *Scheduler) acquire(ctx context.Context, kind discovery.CheckType) (release func(), err error) {
	if kind == discovery.CheckExec {
		// Before the place among all: who waits for other commands must not keep
		// the network's checks waiting.
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

// jitter is d ±5 %, so that checks that began together do not stay so.
func jitter(d time.Duration) time.Duration {
	return d - d/20 + rand.N(d/10+1)
}
