package life

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/lease"
)

// uncertainError is an ErrUnavailable because it is not known whether etcd goes on.
type uncertainError struct{ error }

func (e uncertainError) Unwrap() error { return e.error }

func uncertain(format string, args ...any) error {
	return uncertainError{discovery.Errorf(discovery.ErrUnavailable, format, args...)}
}

// Uncertain reports whether an error says that nothing is granted for the moment, because it is
// not known whether etcd goes on, or because it has started over. Ask again.
func Uncertain(err error) bool { return errors.As(err, new(uncertainError)) }

// ErrContactBroken says that contact with etcd has broken, and that no answer since then has shown
// whether etcd goes on.
var ErrContactBroken = uncertain("contact with etcd has broken, and it is not known yet whether etcd goes on")

// Guard lets a transaction grant something only in the life that is known, and not during a
// quarantine.
type Guard struct {
	life    *Life
	contact int
	known   memory
}

// Present returns the life that is known, whether or not something may be granted.
func (l *Life) Present() Guard {
	contact := l.contact()
	l.mu.Lock()
	defer l.mu.Unlock()
	return Guard{l, contact, l.memory}
}

// Guard returns a guard for a transaction that is sent now. ErrUnavailable: nothing may be granted
// at present, because it is not known yet that etcd goes on.
func (l *Life) Guard() (Guard, error) {
	contact, now := l.contact(), lease.Uptime()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.session == nil || l.proven != contact+1:
		return Guard{}, l.brokenError()
	case now < l.blockedUntil:
		return Guard{}, uncertain("etcd may have been restored from a backup: %s; locks and claims are granted again in %v", l.blockedWhy, (l.blockedUntil - now).Round(time.Millisecond))
	}
	return Guard{l, contact, l.memory}, nil
}

// brokenError returns ErrContactBroken with the reason why etcd has not shown yet that it goes on.
// l.mu is held.
func (l *Life) brokenError() error {
	if l.lastErr == nil {
		return ErrContactBroken
	}
	return uncertainError{fmt.Errorf("%w: %w", ErrContactBroken, l.lastErr)}
}

// Blocked returns why no lock or claim is granted at present, as far as the agent knows without
// asking etcd; nil: they are granted.
func (l *Life) Blocked() error {
	_, err := l.Guard()
	now := lease.Uptime()
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(err, ErrContactBroken) || now >= l.quarantined.until {
		return err
	}
	return uncertain("etcd has started over: it was wiped, restored or replaced; locks and claims are granted again in %v at most", roundUp(max(l.quarantined.until, l.blockedUntil)-now))
}

// Proven returns the contact in which etcd was seen to go on; -1: none.
func (l *Life) Proven() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.proven - 1
}

// AwaitGuard waits until something may be granted, and returns the guard. It returns the error of
// [Life.Guard] when ctx ends.
func (l *Life) AwaitGuard(ctx context.Context) (Guard, error) {
	for {
		_, changed := l.Count()
		g, err := l.Guard()
		if err == nil {
			return g, nil
		}
		blocked := time.NewTimer(l.blockedFor())
		select {
		case <-changed:
		case <-blocked.C:
		case <-ctx.Done():
			blocked.Stop()
			return Guard{}, err
		}
		blocked.Stop()
	}
}

// blockedFor returns the time for which nothing is granted; an hour if it is not known.
func (l *Life) blockedFor() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if left := l.blockedUntil - lease.Uptime(); left > 0 {
		return left
	}
	return time.Hour
}

// Block keeps the agent from granting anything for the length of a quarantine. Its own keys are gone:
// perhaps etcd was restored in a break of contact, and until then others have made promises.
func (l *Life) Block() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.block(l.memory.quarantine.length(lease.Uptime()), "a key or the lease of this agent was gone after a break of contact")
	l.notify()
}

// block keeps the agent from granting anything for a while. l.mu is held.
func (l *Life) block(d time.Duration, why string) {
	if until := lease.Uptime() + d; until > l.blockedUntil {
		l.blockedUntil, l.blockedWhy = until, why
	}
}

// Disprove tells that a key is there in an older state than it was written, so that etcd must have
// started over.
func (l *Life) Disprove(reason string) {
	l.mu.Lock()
	l.memory.void = reason
	l.mu.Unlock()
	l.Doubt()
}

// Compares returns the conditions of a transaction that grants something.
func (g Guard) Compares() []clientv3.Cmp {
	keys := g.life.keys
	same := clientv3.Compare(clientv3.Value(keys.FenceBase()), "=", g.known.base.text)
	if g.known.base.text == "" {
		same = clientv3.Compare(clientv3.CreateRevision(keys.FenceBase()), "=", 0)
	}
	return []clientv3.Cmp{
		clientv3.Compare(clientv3.Value(keys.Epoch()), "=", g.known.Epoch), same,
		clientv3.Compare(clientv3.ModRevision(keys.QuarantineLength()), "=", g.known.lengthRevision), // or promises might outlast a quarantine
		clientv3.Compare(clientv3.CreateRevision(keys.Quarantine()), "=", 0),
	}
}

// Same reports whether two guards are of the same life.
func (g Guard) Same(other Guard) bool {
	return g.known.Epoch == other.known.Epoch && g.known.base == other.known.base
}

// Base returns the base of the fences in the guarded life.
func (g Guard) Base() int64 { return g.known.base.value }

// Contact returns the contact with etcd in which the guard was made; see [lease.Session.Contact].
func (g Guard) Contact() int { return g.contact }

// Check returns an error unless the answer to the guarded transaction, whose conditions held, is
// of the life that was known when it was sent.
func (g Guard) Check(h *pb.ResponseHeader) error {
	at := Identity{HeaderOf(h), g.known.Epoch}
	found := state{Identity: at}
	if reason := found.startedOver(g.known); reason != "" {
		g.life.Doubt()
		return uncertain("etcd seems to have started over: %s; try again", reason)
	}
	g.life.Remember(at)
	return nil
}

// Refused learns why a guarded transaction was refused, after its conditions did not hold. It returns
// nil if the transaction can be sent again, with another guard, and ErrUnavailable during a
// quarantine.
func (l *Life) Refused(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := l.Check(ctx, l.client, Identity{}); err != nil {
		return err
	}
	l.mu.Lock()
	ended := l.quarantined == quarantined{}
	l.mu.Unlock()
	if ended {
		return nil
	}
	return uncertain("etcd has started over: it was wiped, restored or replaced; locks and claims are granted again when its quarantine of at most %v has ended", l.Quarantine())
}

// contact returns the number of the present contact with etcd.
func (l *Life) contact() int {
	if l.session == nil {
		return 0
	}
	n, _ := l.session.Contact()
	return n
}
