package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
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
	// AfterOutage reports that calls to etcd failed before it granted this lease, or that
	// etcd had lost the previous lease before its TTL was over, as when it was wiped. Many
	// sessions get a lease at that time; spread the writes that follow.
	AfterOutage bool

	// AcrossBreak reports that the previous lease was found lost after a break of contact with etcd,
	// so that it may have expired, or etcd may have been restored from a backup without it.
	AcrossBreak bool
	// Contact is the number of the contact with etcd over which the last renewal was answered;
	// see [Session.Contact].
	Contact int
	// Revision is that of the member that answered the last renewal. It may lag behind the others'.
	Revision int64
	// Endpoint is where the last renewal was answered, and Member the id of who answered it; "" and 0: it was
	// not renewed yet, or, of the id, a grpc-proxy does not tell it.
	Endpoint string
	Member   uint64

	sent time.Duration // Uptime at which the last answered renewal was sent
}

// Remaining returns the time for which etcd is certain to keep the lease: its TTL, counted
// from when the last answered renewal was sent. It is negative when the lease may have
// expired. Time during which the host was suspended counts.
func (l Lease) Remaining() time.Duration { return l.TTL - l.SinceRenewal() }

// Reliable returns the time for which the lease can be relied on: until a fifth of the TTL before
// etcd may expire it, so that there is time to stop. It is not positive when nothing can.
func (l Lease) Reliable() time.Duration { return l.Remaining() - l.TTL/5 }

// SinceRenewal returns the time since the last answered renewal was sent.
func (l Lease) SinceRenewal() time.Duration { return Uptime() - l.sent }

// Options are a session's optional settings.
type Options struct {
	Logger     *slog.Logger          // default: discard
	Registerer prometheus.Registerer // registers the metrics; nil: none are registered
}

// Session keeps one lease alive. See the package documentation. It is safe for concurrent
// use.
type Session struct {
	client    *clientv3.Client
	ttl       time.Duration
	log       *slog.Logger
	metrics   *metrics
	verify    retry.Signal // the lease is to be renewed now
	heartbeat heartbeat.Heartbeat

	mu      sync.Mutex
	lease   Lease
	since   time.Time     // when lease.ID changed
	lastErr error         // of the last call, while etcd does not answer; nil: it does
	changed chan struct{} // closed when lease.ID changes
	contact int           // how often the stream of renewals has broken
	broken  chan struct{} // closed when it breaks
}

// Health is the state of a session.
type Health struct {
	Since time.Time // when the lease was granted or lost; zero: no lease was granted yet
	Err   error     // why etcd does not grant or renew the lease; nil: it does
}

// Health returns the session's present state.
func (s *Session) Health() Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Health{s.since, s.lastErr}
}

// New returns a session whose leases have a TTL of ttl, rounded up to whole seconds. The
// session does nothing until Run is called. New fails when o.Registerer refuses the metrics.
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
		verify: retry.NewSignal(), changed: make(chan struct{}), broken: make(chan struct{}),
	}, nil
}

// Lease returns the current lease, and a channel that is closed when the lease is lost or
// replaced by another.
func (s *Session) Lease() (Lease, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lease, s.changed
}

// Contact returns the number of the present contact with etcd, and a channel that is closed when
// another begins: the stream of renewals was opened or has ended, or a renewal was not answered. A
// stream does not outlive its member, so that etcd was not restored from a backup within one
// contact, unless a proxy lies between.
func (s *Session) Contact() (n int, broken <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.contact, s.broken
}

// breakContact begins the next contact, because the previous one has broken.
func (s *Session) breakContact() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.contact++
	close(s.broken)
	s.broken = make(chan struct{})
}

// Verify reports to the session that etcd seems not to know the lease id. The session then
// renews the lease at once instead of when the next renewal is due. Verify does nothing if
// id is not the current lease.
func (s *Session) Verify(id clientv3.LeaseID) {
	if current, _ := s.Lease(); id == 0 || current.ID != id {
		return
	}
	s.verify.Notify()
}

// Revoke revokes the lease, and with it every key under it. Call it after Run has
// returned, when the agent leaves for good.
func (s *Session) Revoke(ctx context.Context) error {
	current, _ := s.Lease()
	if current.ID == 0 {
		return nil
	}
	if _, err := s.client.Revoke(ctx, current.ID); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("revoke lease %s: %w", hex(current.ID), err)
	}
	s.publish(Lease{})
	return nil
}

// Heartbeat returns the heartbeat of Run, by which a watchdog sees whether Run is stuck.
func (s *Session) Heartbeat() *heartbeat.Heartbeat { return &s.heartbeat }

// Run grants a lease and keeps it alive until ctx ends, then returns nil. It does not
// revoke the lease but leaves it to expire, so that a successor can take the keys over.
// A second call of Run continues with the same lease.
func (s *Session) Run(ctx context.Context) error {
	lostEarly, acrossBreak := false, false
	for ctx.Err() == nil {
		current, _ := s.Lease()
		if current.ID == 0 {
			granted, err := s.grant(ctx)
			if err != nil {
				return nil // ctx ended
			}
			current = granted
			current.AfterOutage = current.AfterOutage || lostEarly
			current.AcrossBreak = acrossBreak
			s.publish(current)
			s.metrics.granted.Inc()
			s.log.Info("lease granted", "lease", hex(current.ID), "ttl", current.TTL)
		}
		var lost bool
		if lost, acrossBreak = s.keepAlive(ctx, current); lost {
			current, _ = s.Lease()
			lostEarly = current.Remaining() > 0
			s.publish(Lease{})
			s.breakContact()
			s.metrics.lost.Inc()
			s.log.Warn("lease lost; granting another and registering again", "lease", hex(current.ID))
		}
	}
	return nil
}

func hex(id clientv3.LeaseID) string { return fmt.Sprintf("%x", int64(id)) }

// publish makes l the current lease and, if its id is new, closes the channel that Lease
// returned.
func (s *Session) publish(l Lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease.ID != l.ID {
		close(s.changed)
		s.changed = make(chan struct{})
		s.since = time.Now()
	}
	s.lease = l
	if l.ID != 0 {
		s.lastErr = nil
	}
	s.metrics.held.Set(boolGauge(l.ID != 0))
}

// recordFailure counts a call that etcd did not answer, and remembers the error.
func (s *Session) recordFailure(call string, err error) {
	s.mu.Lock()
	s.lastErr = err
	s.mu.Unlock()
	s.metrics.failures.WithLabelValues(call).Inc()
}

// failing reports whether a call has failed since etcd last granted or renewed the lease.
func (s *Session) failing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastErr != nil
}

// grant requests a lease until etcd grants one. It fails only when ctx ends.
func (s *Session) grant(ctx context.Context) (Lease, error) {
	for backoff := (retry.Backoff{}); ; {
		s.heartbeat.Begin()
		sent := Uptime()
		contact, _ := s.Contact()
		attempt, cancel := context.WithTimeout(ctx, s.callTimeout(backoff.Failures()))
		r, err := s.client.Grant(attempt, int64(math.Ceil(s.ttl.Seconds())))
		cancel()
		if err == nil && r != nil {
			return Lease{ID: r.ID, TTL: time.Duration(r.TTL) * time.Second, AfterOutage: s.failing(),
				Contact: contact, Revision: r.GetRevision(), sent: sent}, nil
		}
		if ctx.Err() != nil {
			return Lease{}, ctx.Err()
		}
		s.recordFailure("grant", err)
		if backoff.Failed() {
			s.log.Warn("cannot get a lease from etcd; trying again", "failures", backoff.Failures(), "error", err)
		}
		s.heartbeat.End()
		if err := backoff.Wait(ctx); err != nil {
			return Lease{}, err
		}
	}
}
