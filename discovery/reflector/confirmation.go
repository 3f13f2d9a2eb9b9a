package reflector

import (
	"context"
	"fmt"
	"time"

	"disc/discovery/life"
	"disc/discovery/retry"
)

// errWatchTimeout is the reason to abandon a watch whose member hangs.
var errWatchTimeout = fmt.Errorf("etcd has not answered the watch for %v", WatchTimeout)

// confirmation records that, at a point in time, etcd had nothing newer than identity's
// revision. A watch alone does not show that: its member may lag behind the others or be
// cut off from them, and a response may be old when it is read, as after the agent was
// paused (SIGSTOP).
type confirmation struct {
	at       time.Time
	identity life.Identity
}

// confirmLoop periodically confirms, by a linearizable read, that the watch is current. It
// returns nil when ctx ends, otherwise the reason to abandon the stream. It calls healthy when a
// watch behind a proxy has shown that it works.
func (r *Reflector) confirmLoop(ctx context.Context, healthy func()) error {
	asked := time.Now()
	interval := r.options.ProgressInterval()
	timer := time.NewTimer(min(interval, DefaultProgressInterval))
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
		var answered, proxied bool
		var before life.Identity
		if err := r.Do(ctx, func() {
			answered, proxied, before = r.answered, r.proxied(), r.identity
			if proxied {
				answered, interval = len(r.proofs) == 0, r.proofInterval(interval)
				if !answered && r.isUncertain() { // the watches alone will not settle them
					answered, interval = true, min(interval, DefaultProgressInterval)
				}
				before.Revision = max(before.Revision, r.lastConfirmation.identity.Revision)
			}
		}); err != nil {
			return err
		}
		switch rest := interval - time.Since(asked); {
		case answered && rest > 0:
			timer.Reset(rest)
			continue
		case answered && proxied:
			fresh, err := r.confirmProxied(ctx, before, healthy)
			if err != nil {
				return err
			}
			asked, interval = fresh.at, r.options.ProgressInterval()
		case answered:
			fresh, err := r.readConfirmation(ctx, before)
			if err != nil {
				return err
			}
			if err := r.Do(ctx, func() { r.lastConfirmation, r.answered = fresh, false }); err != nil {
				return err
			}
			asked, interval = fresh.at, r.options.ProgressInterval()
		case time.Since(asked) >= WatchTimeout:
			if proxied {
				return errMissed
			}
			return errWatchTimeout
		}
		if err := r.Do(ctx, r.askProgress); err != nil {
			return err
		}
		// Ask again soon: etcd ignores the request while a watch has events to send.
		timer.Reset(min(interval, DefaultProgressInterval, WatchTimeout-time.Since(asked)))
	}
}

// readConfirmation makes a linearizable read through the watched member. before is etcd's
// identity, with the store's revision, as it was before the read.
func (r *Reflector) readConfirmation(ctx context.Context, before life.Identity) (confirmation, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, WatchTimeout, errWatchTimeout)
	defer cancel()
	fresh := confirmation{at: time.Now()}
	var err error
	if fresh.identity, err = r.readIdentity(ctx); err != nil {
		return confirmation{}, retry.CauseOf(ctx, err)
	}
	if reason := fresh.identity.StartedOver(before); reason != "" {
		return confirmation{}, fmt.Errorf("watch: %s", reason)
	}
	if r.options.Life != nil {
		r.options.Life.Remember(fresh.identity)
	}
	return fresh, nil
}

// confirm reports whether a store that is complete up to the revision reached is as new as
// the last confirmation showed etcd to be. If so, it takes over the time of that.
func (r *Reflector) confirm(reached int64) bool {
	if reached < r.lastConfirmation.identity.Revision || len(r.behind(r.lastConfirmation.identity.Revision)) > 0 {
		return false
	}
	if r.lastConfirmation.at.After(r.confirmed) {
		r.confirmed = r.lastConfirmation.at
	}
	return true
}
