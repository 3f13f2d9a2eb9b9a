package follow

import (
	"context"
	"fmt"
	"time"
)

// errSilent ends a watch over a member that hangs.
var errSilent = fmt.Errorf("etcd has not answered the watch for %v", Silence)

// proof says that at a moment etcd had nothing newer than the revision of its life. A
// watch cannot tell by itself: its member may lag behind the others or be cut off from
// them, and what it brings may have been on its way for long, as to an agent that was
// stopped.
type proof struct {
	at   time.Time
	life life
	err  error // the member that is watched does not prove anything
}

// prove reads by way of the member that is watched what only etcd as a whole can answer.
// Before that, the mirror had come to a place in the life of etcd.
func (f *Follower) prove(ctx context.Context, before life) proof {
	ctx, cancel := context.WithTimeoutCause(ctx, Silence, errSilent)
	defer cancel()
	p := proof{at: time.Now()}
	var err error
	if p.life, _, err = f.readLife(ctx); err != nil {
		p.err = because(ctx, err)
	} else if why := p.life.startedOver(before); why != "" {
		p.err = fmt.Errorf("watch: %s", why)
	}
	return p
}

// confirm reports whether the newest proof holds for a mirror that has come to a
// revision, and confirms the mirror then.
func (f *Follower) confirm(reached int64) bool {
	if reached < f.proof.life.Revision {
		return false
	}
	if f.proof.at.After(f.confirmed) {
		f.confirmed = f.proof.at
	}
	return true
}
