package life

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/lease"
	"disc/discovery/retry"
)

const (
	// RevisionJump is the rise of the revision that only a restore with --bump-revision makes.
	RevisionJump = 100_000_000
	// BaseStep is how far the base of a new life lies above the highest fence that is known.
	BaseStep = 1_000_000_000
	// MaxFence is the highest fence: the largest integer that every JSON reader has exactly.
	MaxFence = 1<<53 - 1
	// outageWait is how long nothing is granted after no member of etcd had answered at all. In
	// that time others may find that etcd was restored.
	outageWait = 5 * time.Second
)

// Options are a life's optional settings.
type Options struct {
	Session Session      // tells when contact with etcd breaks; nil: nothing is granted, and Run must not be called
	Logger  *slog.Logger // default: discard

	// First is written with the first epoch of an etcd, so that what it writes tells a new namespace
	// from one that has been in use. It is left out where etcd does not permit it, and after
	// [Life.NotFirst].
	First []clientv3.Op
}

// Session is the part of a [lease.Session] that a life uses.
type Session interface {
	// Contact returns the number of the present contact with etcd, and a channel that is closed
	// when another begins.
	Contact() (n int, broken <-chan struct{})
}

// Life knows the present life of the etcd of one namespace. See the package's documentation. It is
// safe for concurrent use.
type Life struct {
	client  *clientv3.Client
	keys    discovery.Keys
	session Session
	first   []clientv3.Op
	log     *slog.Logger
	doubted retry.Signal // Run is to ask

	mu           sync.Mutex
	memory       memory
	count        int           // of new lives that were found
	lastErr      error         // why etcd could not be asked; nil: it was
	proven       int           // the contact in which etcd was seen to go on, plus 1; 0: none
	blockedUntil time.Duration // uptime until which nothing is granted
	blockedWhy   string        // what was seen that does not rule out a restore
	quarantined  quarantined   // the quarantine that was seen last
	changed      chan struct{} // closed when one of the above has changed
}

// memory is what is known of etcd. Its zero value knows nothing.
type memory struct {
	Identity
	at         time.Duration // uptime at which Revision was known
	base       base
	quarantine quarantine

	lengthRevision int64 // at which its length was set; 0: never
	own            ownRecord
	void           string // why all of this is known to be void; "": it is not
}

// ownRecord is the agent's own record, as it was last written.
type ownRecord struct {
	key      string
	revision int64
}

// quarantined is the quarantine of a life of etcd. Its zero value is none.
type quarantined struct {
	epoch string
	until time.Duration // uptime at which it has ended
}

// New returns what knows the life of an etcd. It learns nothing until Run or Check.
func New(client *clientv3.Client, keys discovery.Keys, o Options) *Life {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Life{client: client, keys: keys, session: o.Session, first: o.First, log: o.Logger, doubted: retry.NewSignal(), changed: make(chan struct{})}
}

// NotFirst tells that the agent knows of an earlier run that the namespace has been in use, so that
// it is not new where etcd has no epoch. Call it before Run and Check.
func (l *Life) NotFirst() { l.first = nil }

// Known reports whether an epoch of etcd is known.
func (l *Life) Known() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.memory.Epoch != ""
}

// Wrote tells that the agent has written its own record in a life. Etcd has started over once it has
// an older state of it.
func (l *Life) Wrote(in Guard, key string, revision int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if in.known.Epoch == l.memory.Epoch || in.known.Epoch == "" && l.count == 0 {
		l.memory.own = ownRecord{key, revision}
	}
}

// Count returns how many new lives of etcd were found so far, and a channel that is closed when
// that changes, or when something can be granted again.
func (l *Life) Count() (n int, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count, l.changed
}

// Doubt makes Run ask at once whether etcd goes on.
func (l *Life) Doubt() { l.doubted.Notify() }

// Remember tells what a linearizable read has just shown of the present life.
func (l *Life) Remember(seen Identity) {
	if known := l.remember(seen); known.Epoch == seen.Epoch {
		l.mu.Lock()
		l.memory.at = lease.Uptime()
		l.mu.Unlock()
	}
}

// Revision returns the highest revision of etcd that is known.
func (l *Life) Revision() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.memory.Revision
}

// Check asks etcd through kv, by a linearizable read, whether it goes on, and begins a new life
// where it does not. before is what the caller knows of etcd besides. It returns etcd's identity.
func (l *Life) Check(ctx context.Context, kv clientv3.KV, before Identity) (Identity, error) {
	for first := ""; ; {
		asked := l.remember(before)
		found, err := l.read(ctx, kv, asked)
		if err != nil {
			return Identity{}, err
		}
		reason := found.startedOver(asked)
		if reason == "" && found.epochRevision != 0 || reason != "" && found.begun(asked) {
			l.learn(found, asked, cmp.Or(first, reason))
			return found.Identity, nil
		}
		if err := l.begin(ctx, kv, found, asked, reason); err != nil {
			return Identity{}, err
		}
		first = cmp.Or(first, reason) // later the epoch alone has changed
	}
}

// remember adds what a caller knows to the memory, and returns that.
func (l *Life) remember(before Identity) memory {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.memory.Epoch == "":
		l.memory.Identity = before
	case l.memory.Epoch == before.Epoch && (l.memory.Cluster == before.Cluster || before.Cluster == 0):
		l.memory.Identity = l.memory.atLeast(before)
	}
	return l.memory
}

// learn replaces the memory by what was found, which is the present life. asked is the memory from
// before that was read, and reason why it is void; empty: it is not.
func (l *Life) learn(found state, asked memory, reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.memory.Epoch != asked.Epoch && l.memory.Epoch != found.Epoch {
		return // another caller has learned of a later life meanwhile
	}
	known := l.memory.Identity
	if l.memory.Epoch == found.Epoch { // perhaps since another caller has learned of it meanwhile
		l.memory.Identity = found.atLeast(known)
	} else {
		l.memory.Identity = found.Identity
		l.memory.own, l.memory.void = ownRecord{}, ""
	}
	if known.Epoch != "" && known.Epoch != found.Epoch {
		l.count++
		l.log.Warn("etcd has started over: it was wiped, restored or replaced; locks and claims are granted again when its quarantine has ended",
			"why", reason, "epoch", found.Epoch, "epoch_before", known.Epoch)
		l.notify()
	}
	l.memory.at, l.memory.base = lease.Uptime(), found.base
	l.memory.quarantine, l.memory.lengthRevision = l.memory.quarantine.after(found.length, lease.Uptime()), found.lengthRevision
	l.noteQuarantine(found.quarantined)
}

// noteQuarantine remembers whether a quarantine was seen, for [Life.Blocked]. l.mu is held.
func (l *Life) noteQuarantine(seen bool) {
	now := lease.Uptime()
	switch {
	case !seen:
		l.quarantined = quarantined{}
	case l.quarantined.epoch != l.memory.Epoch:
		l.quarantined = quarantined{l.memory.Epoch, now + l.memory.quarantine.length(now)}
	}
}

// notify wakes all that wait for a change. l.mu is held.
func (l *Life) notify() {
	close(l.changed)
	l.changed = make(chan struct{})
}
