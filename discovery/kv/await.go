package kv

import (
	"context"
	"time"

	"disc/discovery/etcd"
	"disc/discovery/reflector"
	"disc/discovery/retry"
)

// watchRetry is the time after which AwaitChange has its caller read again where etcd cannot be
// watched.
const watchRetry = time.Second

// proxiedRead is the time after which AwaitChange has its caller read again behind a grpc-proxy,
// whose watch may miss changes without an error.
const proxiedRead = 10 * time.Second

// AwaitChange returns nil when a key, or something below a prefix, may have changed since a read
// with a freshness: the caller reads again. It returns the cause of the end of ctx. What is
// cached is watched already; for the rest AwaitChange watches etcd.
func (s *Store) AwaitChange(ctx context.Context, keyOrPrefix string, seen Freshness) error {
	defer s.wait(keyOrPrefix)()
	rng, epoch := s.rangeOf(keyOrPrefix), seen.Epoch
	for {
		changed := s.Changed()
		now := s.state.Load()
		cr := now.covering(rng)
		if cr == nil {
			return s.awaitChangeInEtcd(ctx, rng, seen.Revision)
		}
		if epoch == "" { // etcd itself has answered
			epoch = now.epoch
		}
		if now.epoch != epoch || now.lastChange(cr, rng) > seen.Revision {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// wait keeps a key or a prefix cached, if it is, until release is called.
func (s *Store) wait(keyOrPrefix string) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.interestIn(keyOrPrefix)
	i.waiters++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if i.waiters--; i.waiters == 0 && i.watched.IsZero() {
			delete(s.eventLog.interests, keyOrPrefix)
		}
	}
}

// awaitChangeInEtcd is AwaitChange for a range that is not cached.
func (s *Store) awaitChangeInEtcd(ctx context.Context, r reflector.Range, revision int64) error {
	stream, err := etcd.OpenWatch(ctx, s.client.ActiveConnection())
	if err != nil {
		return retry.Sleep(ctx, watchRetry)
	}
	defer stream.Close()
	stream.Watch(1, r.From, r.To, revision)
	var again <-chan time.Time
	for {
		select {
		case <-again:
			return nil
		case resp, ok := <-stream.Responses():
			if !ok || resp.Canceled {
				return retry.Sleep(ctx, watchRetry)
			}
			for _, e := range resp.Events {
				if e.Kv.ModRevision > revision {
					return nil
				}
			}
			if again == nil && stream.Proxied() {
				again = time.After(proxiedRead)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
