package claim

import (
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/lease"
)

// Kind is what was granted.
type Kind string

// The kinds of grants.
const (
	KindLock  Kind = "lock"  // a lock, or a share of one
	KindClaim Kind = "claim" // a slot of an instance
)

// phase is how far a grant is.
type phase int

const (
	pending  phase = iota // etcd is asked for it, or others are waited for
	active                // the caller has it
	draining              // the caller lost it, but was promised time that is not over
	ended                 // released, or lost and to be swept out
)

// Grant is what a caller of this agent holds, or held. Its methods may be called at any
// time.
type Grant struct {
	holder *Manager
	id     string
	kind   Kind
	name   string // what is held, for people
	lease  clientv3.LeaseID
	ttl    time.Duration // 0: until it is released
	shared int           // of a lock: how many may hold it at once
	claim  *instanceSlot // of a claim

	lost chan struct{}

	// Guarded by holder.mu.
	phase    phase
	key      string        // in etcd, once that is known
	fence    int64         // its create revision
	renewed  time.Duration // uptime at which the caller last renewed it
	promised time.Duration // uptime up to which the caller may rely on it
	ended    time.Duration // uptime at which it was lost
	err      error         // why
}

// newID returns an id that nobody guesses, with the lease by which the operator finds
// the session.
func newID(id clientv3.LeaseID) string {
	return sessionText(id) + "-" + strings.ToLower(rand.Text())
}

func sessionText(id clientv3.LeaseID) string { return strconv.FormatInt(int64(id), 16) }

// ID names the grant to its holder.
func (g *Grant) ID() string { return g.id }

// Name is what is held: the name of a lock, or of the service of a claim.
func (g *Grant) Name() string { return g.name }

// Fence is the revision at which etcd took the grant's key: higher than that of whoever
// had it before.
func (g *Grant) Fence() int64 {
	g.holder.mu.Lock()
	defer g.holder.mu.Unlock()
	return g.fence
}

// TTL is how long the grant lasts without being renewed; 0: until it is released.
func (g *Grant) TTL() time.Duration { return g.ttl }

// Shared is how many may hold the lock at once.
func (g *Grant) Shared() int { return g.shared }

// Lost is closed when the grant has ended without having been released.
func (g *Grant) Lost() <-chan struct{} { return g.lost }

// Err returns why the grant is lost, an ErrLost; nil: it is not.
func (g *Grant) Err() error {
	g.holder.mu.Lock()
	defer g.holder.mu.Unlock()
	return g.err
}

// ValidFor returns for how long from now the grant can be relied on, and promises it.
// It is 0 for a grant that is lost.
func (g *Grant) ValidFor() time.Duration {
	current, _ := g.holder.session.Lease()
	g.holder.mu.Lock()
	defer g.holder.mu.Unlock()
	if g.phase != active {
		return 0
	}
	left := max(g.remaining(current, lease.Uptime()), 0)
	g.promised = max(g.promised, lease.Uptime()+left)
	return left
}

// Remaining returns for how long a session's lease is safe to be relied on: etcd keeps
// it for a fifth of its TTL longer, in which whoever relies on it comes to a stop.
func Remaining(l lease.Lease) time.Duration { return l.Remaining() - l.TTL/5 }

// remaining is for how long the grant lasts as things stand. holder.mu is held.
func (g *Grant) remaining(current lease.Lease, now time.Duration) time.Duration {
	if current.ID != g.lease {
		return 0
	}
	left := Remaining(current)
	if g.ttl > 0 {
		left = min(left, g.renewed+g.ttl-now)
	}
	return left
}

// endReason says why a grant has ended; nil: it has not. holder.mu is held.
func (g *Grant) endReason(current lease.Lease, now time.Duration) error {
	switch {
	case g.phase == pending && current.ID != g.lease:
		return g.unavailable(sessionLost)
	case g.phase == pending:
		return nil // nothing is promised yet
	case current.ID != g.lease:
		return g.lostBecause("the agent's session with etcd was lost")
	case g.ttl > 0 && now >= g.renewed+g.ttl:
		return g.lostBecause("it was not renewed within its TTL of %v", g.ttl)
	case Remaining(current) <= 0:
		return g.lostBecause("etcd has not confirmed the agent's session in time")
	case g.claim != nil && g.claim.gone():
		return g.lostBecause("instance %q is gone", g.claim.entry.ID)
	}
	return nil
}

func (g *Grant) lostBecause(format string, args ...any) error {
	return discovery.Errorf(discovery.ErrLost, "%s %q is lost: %s", g.kind, g.name, fmt.Sprintf(format, args...))
}

const sessionLost = "the agent's session with etcd was lost meanwhile; ask again"

// unavailable is why nothing can be granted at the moment.
func (g *Grant) unavailable(why string) error {
	return discovery.Errorf(discovery.ErrUnavailable, "%s %q: %s", g.kind, g.name, why)
}
