package lease

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"disc/discovery/retry"
)

// callTimeout returns the timeout of one call, after which the call is made again to the
// next endpoint: a fifth of the TTL, at most 3 s. For an etcd that is slow it doubles each
// time that all endpoints have failed, twice at most.
func (s *Session) callTimeout(failures int) time.Duration {
	rounds := failures / len(s.client.Endpoints())
	return min(s.ttl/5, 3*time.Second) << min(rounds, 2)
}

// keepAlive renews a lease until etcd no longer knows it, and then returns true and whether contact
// has broken since the last renewal, or until ctx ends. It starts at a random endpoint, which spreads the leases of many agents over
// the endpoints. The first renewal comes early, since it opens the stream, and a broken
// stream is how an outage is noticed.
func (s *Session) keepAlive(ctx context.Context, l Lease) (lost, acrossBreak bool) {
	k := keepalive{client: s.client, id: l.ID, endpointIndex: rand.IntN(len(s.client.Endpoints()))}
	defer k.close()
	for interval := min(l.TTL/3, time.Second); s.awaitRenewal(ctx, &k, interval); interval = k.untilNext(l) {
		renewed, err := s.renew(ctx, &k)
		switch {
		case err != nil:
			return false, false // ctx ended
		case renewed.TTL == 0:
			return true, renewed.Contact != l.Contact
		}
		renewed.AfterOutage, renewed.AcrossBreak = l.AfterOutage, l.AcrossBreak
		l = renewed
		s.publish(l)
	}
	return false, false
}

// proxyDelay is how long a grpc-proxy may take to notice that a renewal of its own is due, which it
// makes at each third of the TTL.
const proxyDelay = 500 * time.Millisecond

// untilNext returns the time until the next renewal of a lease is due. Behind a grpc-proxy it is the
// time until the proxy has made its own, or is late with it.
func (k *keepalive) untilNext(l Lease) time.Duration {
	if k.proxied {
		return max(l.TTL/3+proxyDelay-l.SinceRenewal(), l.TTL/12)
	}
	return l.TTL/3 - min(l.SinceRenewal(), l.TTL/6)
}

// awaitRenewal waits until the next renewal is due: after interval, less up to a tenth of
// it as jitter, on Verify, or soon after the stream has ended, since etcd may come back
// without the lease. It returns false when ctx ends.
func (s *Session) awaitRenewal(ctx context.Context, k *keepalive, interval time.Duration) bool {
	s.heartbeat.End()
	due := time.After(interval - rand.N(interval/10+1))
	for {
		select {
		case <-due:
		case <-s.verify:
		case a := <-k.responses:
			if a.err == nil && k.proxied {
				continue // to an earlier renewal
			}
			return s.awaitNextStream(ctx, k, interval)
		case <-ctx.Done():
		}
		return ctx.Err() == nil
	}
}

// awaitNextStream closes the stream, which has ended, and waits until the renewal is due that opens
// the next one.
func (s *Session) awaitNextStream(ctx context.Context, k *keepalive, interval time.Duration) bool {
	k.closeStream()
	s.breakContact()
	s.recordFailure("renew", errors.New("the connection to etcd was lost"))
	// The streams of many agents end together with a member: spread their renewals.
	return s.awaitRenewal(ctx, k, rand.N(min(interval/2, time.Second)+1))
}

// renew renews the lease, trying one endpoint after the other, until etcd answers. The
// TTL of the lease that it returns is 0 when etcd does not know the lease. It fails only
// when ctx ends.
func (s *Session) renew(ctx context.Context, k *keepalive) (Lease, error) {
	for backoff := (retry.Backoff{}); ; {
		s.heartbeat.Begin()
		opening := k.stream == nil
		answer, err := k.renew(ctx, s.callTimeout(backoff.Failures()))
		if err == nil {
			if answer.ttl > 0 && backoff.Failures() > 1 {
				s.log.Info("lease is renewed again", "lease", hex(k.id), "endpoint", k.endpoint())
			}
			if opening {
				s.breakContact()
			}
			contact, _ := s.Contact()
			return Lease{ID: k.id, TTL: max(answer.ttl, 0), Contact: contact, Revision: answer.revision,
				Endpoint: k.endpoint(), Member: answer.member, sent: answer.sent}, nil
		}
		if ctx.Err() != nil {
			return Lease{}, ctx.Err()
		}
		s.breakContact()
		s.recordFailure("renew", err)
		if backoff.Failed() && backoff.Failures() > 1 {
			s.log.Warn("lease is not renewed; trying again", "lease", hex(k.id), "failures", backoff.Failures(), "error", err)
		}
		k.nextEndpoint()
		if backoff.Failures() < max(2, len(s.client.Endpoints())) {
			continue // try every endpoint once without delay
		}
		s.heartbeat.End()
		select {
		case <-time.After(min(backoff.Next(), s.ttl/5)):
		case <-s.verify: // whoever calls Verify has an answer from etcd
		case <-ctx.Done():
			return Lease{}, ctx.Err()
		}
	}
}
