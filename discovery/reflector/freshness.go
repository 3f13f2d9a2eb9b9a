package reflector

import (
	"context"
	"fmt"
	"time"
)

// errWatchTimeout ends a watch over a member that hangs.
var errWatchTimeout = fmt.Errorf("etcd has not answered the watch for %v", WatchTimeout)

// freshness says that at a moment etcd had nothing newer than the revision of its life. A
// watch cannot tell by itself: its member may lag behind the others or be cut off from
// them, and what it brings may have been on its way for long, as to an agent that was
// stopped.
type freshness struct {
	at       time.Time
	identity clusterIdentity
}

// confirmLoop has etcd prove every now and then that there is nothing newer than what a
// stream brings, until ctx ends, or the stream is to be given up and why.
func (f *Reflector) confirmLoop(ctx context.Context, s *watchStream) error {
	asked, quiet := time.Now(), f.options.ProgressInterval() // since when an answer is waited for; after that, how long etcd is let be
	look := time.NewTimer(min(quiet, DefaultProgressInterval))
	defer look.Stop()
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil
		}
		var answered bool
		var before clusterIdentity
		if err := f.Do(ctx, func() { answered, before = f.answered, f.identity }); err != nil {
			return err
		}
		switch rest := quiet - time.Since(asked); {
		case answered && rest > 0:
			look.Reset(rest)
			continue
		case answered:
			p, err := f.readFreshness(ctx, before)
			if err != nil {
				return err
			}
			if err := f.Do(ctx, func() { f.freshness, f.answered = p, false }); err != nil {
				return err
			}
			asked, quiet = p.at, f.options.ProgressInterval()
		case time.Since(asked) >= WatchTimeout:
			return errWatchTimeout
		}
		s.askProgress()
		// Asked while a watch has something to tell, etcd does not answer.
		look.Reset(min(quiet, DefaultProgressInterval, WatchTimeout-time.Since(asked)))
	}
}

// readFreshness reads by way of the member that is watched what only etcd as a whole can answer.
// Before that, the mirror had come to a place in the life of etcd.
func (f *Reflector) readFreshness(ctx context.Context, before clusterIdentity) (freshness, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, WatchTimeout, errWatchTimeout)
	defer cancel()
	p := freshness{at: time.Now()}
	var err error
	if p.identity, _, err = f.readIdentity(ctx); err != nil {
		return freshness{}, CauseOf(ctx, err)
	}
	if why := p.identity.startedOverReason(before); why != "" {
		return freshness{}, fmt.Errorf("watch: %s", why)
	}
	return p, nil
}

// confirm reports whether the newest proof holds for a mirror that has come to a
// revision, and confirms the mirror then.
func (f *Reflector) confirm(reached int64) bool {
	if reached < f.freshness.identity.Revision {
		return false
	}
	if f.freshness.at.After(f.confirmed) {
		f.confirmed = f.freshness.at
	}
	return true
}
