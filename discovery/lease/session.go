package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/heartbeat"
	"disc/discovery/retry"
)

// The range of a session's TTL and its default.
const (
	MinTTL     = 5 * time.Second
	MaxTTL     = time.Hour
	DefaultTTL = 15 * time.Second
)

// Lease is a session's lease at one moment.
type Lease struct {
	ID  clientv3.LeaseID // 0: there is none
	TTL time.Duration    // as etcd granted it
	// AfterOutage tells that etcd had not answered before it granted this lease: many
	// sessions get theirs now, and had better not write all at once.
	AfterOutage bool

	sent time.Duration // Uptime at which the last renewal that was answered was sent
}

// Remaining returns for how long etcd is certain to keep the lease: its TTL since the
// last answered renewal was sent. It is negative when it may have expired. Time that
// the host was suspended counts.
func (l Lease) Remaining() time.Duration { return l.TTL - l.SinceRenewal() }

// SinceRenewal returns how long ago the last answered renewal was sent.
func (l Lease) SinceRenewal() time.Duration { return Uptime() - l.sent }

// Options are a session's optional settings.
type Options struct {
	Logger     *slog.Logger          // default: discard
	Registerer prometheus.Registerer // collects the metrics; nil: nobody does
}

// Session keeps one lease alive. See the package's documentation.
type Session struct {
	client  *clientv3.Client
	ttl     time.Duration
	log     *slog.Logger
	metrics *metrics
	doubt   chan struct{} // size one: verify the lease now
	pulse   heartbeat.Heartbeat

	mu      sync.Mutex
	lease   Lease
	since   time.Time     // when lease.ID changed
	trouble error         // why etcd does not answer; nil: it does
	changed chan struct{} // closed when lease.ID changes
}

// Health is what a session says of itself.
type Health struct {
	Since time.Time // when the lease was granted or lost; zero: there was none yet
	Err   error     // why etcd does not grant or renew it; nil: it does
}

// Health returns how the session is.
func (s *Session) Health() Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Health{s.since, s.trouble}
}

// New returns a session of a TTL, which etcd rounds up to whole seconds. It does
// nothing until Run. The error is that of metrics that cannot be registered.
func New(client *clientv3.Client, ttl time.Duration, o Options) (*Session, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	return &Session{
		client: client, ttl: ttl, log: o.Logger, metrics: m,
		doubt: make(chan struct{}, 1), changed: make(chan struct{}),
	}, nil
}

// Lease returns the lease and a channel that is closed when another takes its place
// or it is lost.
func (s *Session) Lease() (Lease, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lease, s.changed
}

// Verify tells the session that etcd does not seem to know the lease id. If it is the
// current one, it is verified at once instead of at the next renewal.
func (s *Session) Verify(id clientv3.LeaseID) {
	if current, _ := s.Lease(); id == 0 || current.ID != id {
		return
	}
	select {
	case s.doubt <- struct{}{}:
	default:
	}
}

// Revoke gives the lease back, with every key under it. It is for an agent that
// leaves; call it after Run has returned.
func (s *Session) Revoke(ctx context.Context) error {
	current, _ := s.Lease()
	if current.ID == 0 {
		return nil
	}
	if _, err := s.client.Revoke(ctx, current.ID); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("revoke lease %s: %w", hex(current.ID), err)
	}
	s.set(Lease{})
	return nil
}

// Heartbeat shows whether Run is stuck.
func (s *Session) Heartbeat() *heartbeat.Heartbeat { return &s.pulse }

// Run keeps a lease until ctx ends, and returns nil then. The lease is left to lapse,
// so that a successor can take the keys over; another Run goes on with it.
func (s *Session) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		held, _ := s.Lease()
		if held.ID == 0 {
			granted, err := s.grant(ctx)
			if err != nil {
				return nil // ctx ended
			}
			held = granted
			s.set(held)
			s.metrics.granted.Inc()
			s.log.Info("lease granted", "lease", hex(held.ID), "ttl", held.TTL)
		}
		if s.keep(ctx, held) {
			s.set(Lease{})
			s.metrics.lost.Inc()
			s.log.Warn("lease lost; granting another and registering again", "lease", hex(held.ID))
		}
	}
	return nil
}

func hex(id clientv3.LeaseID) string { return fmt.Sprintf("%x", int64(id)) }

// set publishes the lease and wakes those who wait for another id.
func (s *Session) set(l Lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease.ID != l.ID {
		close(s.changed)
		s.changed = make(chan struct{})
		s.since = time.Now()
	}
	s.lease = l
	if l.ID != 0 {
		s.trouble = nil
	}
	s.metrics.held.Set(boolGauge(l.ID != 0))
}

// fail counts a call that etcd did not answer, and keeps why.
func (s *Session) fail(call string, err error) {
	s.mu.Lock()
	s.trouble = err
	s.mu.Unlock()
	s.metrics.failures.WithLabelValues(call).Inc()
}

// troubled reports whether etcd has not answered since the last time that it did.
func (s *Session) troubled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trouble != nil
}

// grant asks for a lease until there is one. It fails only when ctx ends.
func (s *Session) grant(ctx context.Context) (Lease, error) {
	for retry := (retry.Backoff{}); ; {
		s.pulse.Begin()
		sent := Uptime()
		attempt, cancel := context.WithTimeout(ctx, s.patience(retry.Failures()))
		r, err := s.client.Grant(attempt, int64(math.Ceil(s.ttl.Seconds())))
		cancel()
		if err == nil && r != nil {
			return Lease{ID: r.ID, TTL: time.Duration(r.TTL) * time.Second, AfterOutage: s.troubled(), sent: sent}, nil
		}
		if ctx.Err() != nil {
			return Lease{}, ctx.Err()
		}
		s.fail("grant", err)
		if retry.Failed() {
			s.log.Warn("cannot get a lease from etcd; trying again", "failures", retry.Failures(), "error", err)
		}
		s.pulse.End()
		if err := retry.Wait(ctx); err != nil {
			return Lease{}, err
		}
	}
}

// patience is how long one call may take before it is made again elsewhere: a fifth of
// the TTL, at most 3 s, and longer once every endpoint has failed, for an etcd that is
// slow.
func (s *Session) patience(failures int) time.Duration {
	rounds := failures / len(s.client.Endpoints())
	return min(s.ttl/5, 3*time.Second) << min(rounds, 2)
}

// keep renews a lease until etcd says that it is gone, and reports true, or ctx ends.
// It begins at any endpoint, so that a fleet's leases are spread over them, and soon:
// only an open stream tells when etcd goes away.
func (s *Session) keep(ctx context.Context, l Lease) (lost bool) {
	k := keeper{client: s.client, id: l.ID, at: rand.IntN(len(s.client.Endpoints()))}
	defer k.close()
	for interval := min(l.TTL/3, time.Second); s.pause(ctx, &k, interval); interval = l.TTL/3 - min(l.SinceRenewal(), l.TTL/6) {
		renewed, err := s.renew(ctx, &k)
		switch {
		case err != nil:
			return false // ctx ended
		case renewed.TTL == 0:
			return true
		}
		renewed.AfterOutage = l.AfterOutage
		l = renewed
		s.set(l)
	}
	return false
}

// pause waits until the next renewal is due, the lease is doubted, or the stream
// ended: etcd may come back without the lease. It reports false when ctx ends.
func (s *Session) pause(ctx context.Context, k *keeper, interval time.Duration) bool {
	s.pulse.End()
	select {
	case <-time.After(interval - rand.N(interval/10+1)):
	case <-s.doubt:
	case <-k.answers:
		k.drop()
		s.fail("renew", errors.New("the connection to etcd was lost"))
		// A member that goes takes the streams of many agents along.
		return s.pause(ctx, k, rand.N(min(interval/2, time.Second)+1))
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// renew renews the lease, over one endpoint after the other, until etcd answers. It
// fails only when ctx ends.
func (s *Session) renew(ctx context.Context, k *keeper) (Lease, error) {
	for retry := (retry.Backoff{}); ; {
		s.pulse.Begin()
		sent := Uptime()
		ttl, err := k.renew(ctx, s.patience(retry.Failures()))
		if err == nil {
			if ttl > 0 && retry.Failures() > 1 {
				s.log.Info("lease is renewed again", "lease", hex(k.id), "endpoint", k.endpoint())
			}
			return Lease{ID: k.id, TTL: ttl, sent: sent}, nil
		}
		if ctx.Err() != nil {
			return Lease{}, ctx.Err()
		}
		s.fail("renew", err)
		if retry.Failed() && retry.Failures() > 1 {
			s.log.Warn("lease is not renewed; trying again", "lease", hex(k.id), "failures", retry.Failures(), "error", err)
		}
		k.move()
		if retry.Failures() < max(2, len(s.client.Endpoints())) {
			continue // once around without delay
		}
		s.pulse.End()
		select {
		case <-time.After(min(retry.Next(), s.ttl/5)):
		case <-s.doubt: // whoever doubts has heard from etcd
		case <-ctx.Done():
			return Lease{}, ctx.Err()
		}
	}
}
