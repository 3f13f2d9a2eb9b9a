package lock

import (
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/lease"
	"disc/discovery/life"
)

// phase is the state of a grant.
type phase int

const (
	pending  phase = iota // requested; its caller does not have it yet
	active                // its caller holds it
	draining              // lost, but its holder was promised that nobody else gets it yet
	ended                 // released, or lost and to be removed as an orphan
)

// Grant is a lock, or a grant of another [Issuer], that a caller of this agent holds or
// held. It is safe for concurrent use.
type Grant struct {
	manager *Manager
	id      string
	kind    string
	name    string
	lease   clientv3.LeaseID
	ttl     time.Duration // 0: until it is released
	shared  int           // the number of holders that a lock may have

	lost chan struct{}

	// Guarded by manager.mu.
	phase     phase
	key       string        // in etcd, once it is known
	created   int64         // the key's create revision
	sent      time.Duration // uptime at which the transaction was sent
	guard     life.Guard    // of the transaction that granted it, or joined the queue
	resource  Resource      // nil for a lock
	activated time.Duration // uptime at which its caller got it
	seenAt    time.Duration // uptime at which a call was sent whose answer showed the key as it was written
	renewed   time.Duration // uptime at which the caller last renewed it
	promised  time.Duration // uptime up to which the caller may rely on it
	lostAt    time.Duration // uptime at which it was lost
	err       error         // why it was lost

	// Only verifyLoop uses these.
	watch int64 // the id of the watch of its key; 0: it is not watched
	seen  bool  // it was watched once
}

// newID returns an id that cannot be guessed. It begins with the lease, by which an operator
// finds the session.
func newID(id clientv3.LeaseID) string {
	return sessionText(id) + "-" + strings.ToLower(rand.Text())
}

func sessionText(id clientv3.LeaseID) string { return strconv.FormatInt(int64(id), 16) }

// ID returns the id by which the holder renews and releases the grant.
func (g *Grant) ID() string { return g.id }

// Name returns the name of the lock, or the name that was given to [Issuer.Request].
func (g *Grant) Name() string { return g.name }

// Fence returns the fence of the grant: the create revision of its key in etcd, added to the base of
// the fences in the present life of etcd. It is higher than that of every earlier holder.
func (g *Grant) Fence() int64 {
	g.manager.mu.Lock()
	defer g.manager.mu.Unlock()
	return g.guard.Base() + g.created
}

// TTL returns the time for which the grant lasts without a renewal; 0: until it is released.
func (g *Grant) TTL() time.Duration { return g.ttl }

// Shared returns the number of holders that the lock may have at once; 0 if the grant is not
// a lock.
func (g *Grant) Shared() int { return g.shared }

// Resource returns the resource that [PendingGrant.Confirm] was given; nil if the grant is a lock.
func (g *Grant) Resource() Resource {
	g.manager.mu.Lock()
	defer g.manager.mu.Unlock()
	return g.resource
}

// Lost returns a channel that is closed when the grant is lost: when it ends without having
// been released.
func (g *Grant) Lost() <-chan struct{} { return g.lost }

// Err returns why the grant is lost, an ErrLost; nil: it is not lost.
func (g *Grant) Err() error {
	g.manager.mu.Lock()
	defer g.manager.mu.Unlock()
	return g.err
}

// ValidFor returns the time from now for which the grant can be relied on, and promises it
// to the caller: see [Manager.Close]. It is 0 for a grant that is lost.
func (g *Grant) ValidFor() time.Duration {
	current, now := g.manager.reliable(), lease.Uptime()
	g.manager.mu.Lock()
	defer g.manager.mu.Unlock()
	if g.phase != active {
		return 0
	}
	left := max(g.remaining(current, now), 0)
	g.promised = max(g.promised, now+left)
	return left
}

// reliable is the session's lease as far as grants can rely on it.
type reliable struct {
	id      clientv3.LeaseID
	session time.Duration // until etcd may expire the lease, less a fifth of its TTL
	left    time.Duration // for which grants can be relied on: no longer than session
	promise time.Duration // for which a grant can be relied on after its key was seen
}

// reliable returns the session's lease, and for how long grants can be relied on: until a fifth of
// the TTL before etcd may expire the lease, so that holders can stop, and no longer after etcd was
// last seen to go on than four fifths of a quarantine. What was answered counts only in a contact
// in which the keys of all grants were seen. Nor can a grant be relied on for longer after its key
// was seen: a break of a lock marks the key, and waits for a quarantine.
func (m *Manager) reliable() reliable {
	current, _ := m.session.Lease()
	now, atMost := lease.Uptime(), m.life.MaxPromise()
	m.mu.Lock()
	defer m.mu.Unlock()
	if current.Contact == m.verified {
		m.relied = current
		m.provenAt = max(m.provenAt, now-current.SinceRenewal())
	}
	if m.relied.ID == current.ID {
		current = m.relied
	}
	session := current.Reliable()
	promise := atMost * 4 / 5
	return reliable{current.ID, session, min(session, promise-(now-m.provenAt)), promise}
}

// remaining returns the time that the grant lasts without another renewal of the grant or
// the lease. manager.mu is held.
func (g *Grant) remaining(current reliable, now time.Duration) time.Duration {
	if current.id != g.lease {
		return 0
	}
	left := min(current.left, g.seenAt+current.promise-now)
	if g.ttl > 0 {
		left = min(left, g.renewed+g.ttl-now)
	}
	return left
}

// endReason returns why a grant ends now, or nil if it does not. manager.mu is held.
func (g *Grant) endReason(current reliable, now time.Duration) error {
	switch {
	case g.phase == pending && current.id != g.lease:
		return g.unavailable(sessionLost)
	case g.phase == pending:
		return nil // the caller relies on nothing yet
	case current.id != g.lease:
		return g.lostBecause("the agent's session with etcd was lost")
	case g.ttl > 0 && now >= g.renewed+g.ttl:
		return g.lostBecause("it was not renewed within its TTL of %v", g.ttl)
	case current.left <= 0:
		return g.lostBecause("etcd has not confirmed the agent's session in time")
	case now >= g.seenAt+current.promise:
		return g.lostBecause("its key in etcd could not be read in time")
	case g.resource != nil:
		if err := g.resource.Gone(); err != nil {
			return g.lostBecause("%v", err)
		}
	}
	return nil
}

// lostBecause returns the ErrLost of a grant.
func (g *Grant) lostBecause(format string, args ...any) error {
	return discovery.Errorf(discovery.ErrLost, "%s %q is lost: %s", g.kind, g.name, fmt.Sprintf(format, args...))
}

const sessionLost = "the agent's session with etcd was lost meanwhile; ask again"

// unavailable returns the ErrUnavailable of a grant that cannot be given at the moment.
func (g *Grant) unavailable(reason string) error {
	return discovery.Errorf(discovery.ErrUnavailable, "%s %q: %s", g.kind, g.name, reason)
}

// verifySession makes the session check its lease, which etcd seems not to know, and returns
// the ErrUnavailable of the pending grant.
func (g *Grant) verifySession() error {
	g.manager.session.Verify(g.lease)
	return g.unavailable(sessionLost)
}
