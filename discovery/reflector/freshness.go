package reflector

import (
	"context"
	"fmt"
	"time"
)

// errSilent ends a watch over a member that hangs.
var errSilent = fmt.Errorf("etcd has not answered the watch for %v", WatchTimeout)

// freshness says that at a moment etcd had nothing newer than the revision of its life. A
// watch cannot tell by itself: its member may lag behind the others or be cut off from
// them, and what it brings may have been on its way for long, as to an agent that was
// stopped.
type freshness struct {
	at   time.Time
	life clusterIdentity
}

// keepProving has etcd prove every now and then that there is nothing newer than what a
// stream brings, until ctx ends, or the stream is to be given up and why.
func (f *Reflector) keepProving(ctx context.Context, s *watchStream) error {
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
		if err := f.Do(ctx, func() { answered, before = f.answered, f.life }); err != nil {
			return err
		}
		switch rest := quiet - time.Since(asked); {
		case answered && rest > 0:
			look.Reset(rest)
			continue
		case answered:
			p, err := f.prove(ctx, before)
			if err != nil {
				return err
			}
			if err := f.Do(ctx, func() { f.proof, f.answered = p, false }); err != nil {
				return err
			}
			asked, quiet = p.at, f.options.ProgressInterval()
		case time.Since(asked) >= WatchTimeout:
			return errSilent
		}
		s.askProgress()
		// Asked while a watch has something to tell, etcd does not answer.
		look.Reset(min(quiet, DefaultProgressInterval, WatchTimeout-time.Since(asked)))
	}
}

// prove reads by way of the member that is watched what only etcd as a whole can answer.
// Before that, the mirror had come to a place in the life of etcd.
func (f *Reflector) prove(ctx context.Context, before clusterIdentity) (freshness, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, WatchTimeout, errSilent)
	defer cancel()
	p := freshness{at: time.Now()}
	var err error
	if p.life, _, err = f.readLife(ctx); err != nil {
		return freshness{}, CauseOf(ctx, err)
	}
	if why := p.life.startedOver(before); why != "" {
		return freshness{}, fmt.Errorf("watch: %s", why)
	}
	return p, nil
}

// confirm reports whether the newest proof holds for a mirror that has come to a
// revision, and confirms the mirror then.
func (f *Reflector) confirm(reached int64) bool {
	if reached < f.proof.life.Revision {
		return false
	}
	if f.proof.at.After(f.confirmed) {
		f.confirmed = f.proof.at
	}
	return true
}
