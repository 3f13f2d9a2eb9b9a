package reflector

import (
	"context"
	"fmt"
	"time"

	"disc/discovery/retry"
)

// errWatchTimeout is the reason to abandon a watch whose member hangs.
var errWatchTimeout = fmt.Errorf("etcd has not answered the watch for %v", WatchTimeout)

// freshness records that, at a point in time, etcd had nothing newer than identity's
// revision. A watch alone does not show that: its member may lag behind the others or be
// cut off from them, and a response may have been in transit for long, as to an agent
// that was stopped.
type freshness struct {
	at       time.Time
	identity clusterIdentity
}

// confirmLoop periodically confirms, by a linearizable read, that the watch is current. It
// returns nil when ctx ends, otherwise the reason to abandon the stream.
func (r *Reflector) confirmLoop(ctx context.Context, s *watchStream) error {
	asked, interval := time.Now(), r.options.ProgressInterval() // time of the last confirmation; how long to wait before the next
	timer := time.NewTimer(min(interval, DefaultProgressInterval))
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
		var answered bool
		var before clusterIdentity
		if err := r.Do(ctx, func() { answered, before = r.answered, r.identity }); err != nil {
			return err
		}
		switch rest := interval - time.Since(asked); {
		case answered && rest > 0:
			timer.Reset(rest)
			continue
		case answered:
			fresh, err := r.readFreshness(ctx, before)
			if err != nil {
				return err
			}
			if err := r.Do(ctx, func() { r.freshness, r.answered = fresh, false }); err != nil {
				return err
			}
			asked, interval = fresh.at, r.options.ProgressInterval()
		case time.Since(asked) >= WatchTimeout:
			return errWatchTimeout
		}
		s.askProgress()
		// Ask again soon: etcd ignores the request while a watch has events to send.
		timer.Reset(min(interval, DefaultProgressInterval, WatchTimeout-time.Since(asked)))
	}
}

// readFreshness makes a linearizable read through the watched member. before is etcd's
// identity, with the store's revision, as it was before the read.
func (r *Reflector) readFreshness(ctx context.Context, before clusterIdentity) (freshness, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, WatchTimeout, errWatchTimeout)
	defer cancel()
	fresh := freshness{at: time.Now()}
	var err error
	if fresh.identity, _, err = r.readIdentity(ctx); err != nil {
		return freshness{}, retry.CauseOf(ctx, err)
	}
	if reason := fresh.identity.startedOverReason(before); reason != "" {
		return freshness{}, fmt.Errorf("watch: %s", reason)
	}
	return fresh, nil
}

// confirm reports whether a store that is complete up to the revision reached is as new as
// the last confirmation showed etcd to be. If so, it takes over the time of that.
func (r *Reflector) confirm(reached int64) bool {
	if reached < r.freshness.identity.Revision {
		return false
	}
	if r.freshness.at.After(r.confirmed) {
		r.confirmed = r.freshness.at
	}
	return true
}
