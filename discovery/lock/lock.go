package lock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"disc/discovery"
)

// MaxShared is the largest number of holders that one lock may have at once.
const MaxShared = 1000

// Request says how a lock is requested.
type Request struct {
	Wait   time.Duration // how long to wait for the lock; 0: fail at once if it is held
	TTL    time.Duration // how long the lock lasts without a renewal; 0: until it is released
	Shared int           // how many holders the lock may have at once, 1 to MaxShared; 0: 1
}

func (r Request) validate() error {
	switch {
	case r.Wait < 0 || r.TTL < 0:
		return discovery.Errorf(discovery.ErrInvalid, "a lock's wait and ttl are at least 0")
	case r.Shared < 1 || r.Shared > MaxShared:
		return discovery.Errorf(discovery.ErrInvalid, "a lock is shared by 1 to %d holders, not by %d", MaxShared, r.Shared)
	}
	return nil
}

// Lock acquires a lock, after all callers that requested it earlier. The errors are
// ErrInvalid, ErrConflict (the lock is held, or is shared by another number of holders),
// ErrUnavailable (the agent has no session with etcd, loses it meanwhile, or stops),
// ErrStorageFull or ErrBusy (see [Issuer.Admit]), the error of ctx, or that of etcd. Once ctx
// has ended, no lock is returned.
func (m *Manager) Lock(ctx context.Context, name string, r Request) (*Grant, error) {
	if r.Shared == 0 {
		r.Shared = 1
	}
	if err := errors.Join(discovery.ValidateLock(name), r.validate()); err != nil {
		return nil, err
	}
	if err := m.locks.Admit(ctx); err != nil {
		return nil, fmt.Errorf("lock %q: %w", name, err)
	}
	g := &Grant{name: name, ttl: r.TTL, shared: r.Shared}
	if err := m.locks.register(ctx, g); err != nil {
		return nil, err
	}
	m.mu.Lock()
	g.key = m.keys.Lock(name) + g.id
	m.mu.Unlock()
	w := waiter{Grant: g, prefix: m.keys.Lock(name)}
	err := w.acquire(ctx, r.Wait)
	if err == nil {
		err = ctx.Err() // the caller may have gone in the moment of the grant
	}
	if err != nil {
		return nil, w.abandon(ctx, err)
	}
	return g, nil
}

// Renew restarts the TTL of a lock; see [Issuer.Renew].
func (m *Manager) Renew(name, id string) (*Grant, error) {
	return m.locks.renew(id, func(g *Grant) bool { return g.name == name })
}

// Release releases a lock; see [Issuer.Release].
func (m *Manager) Release(ctx context.Context, name, id string) (done bool, err error) {
	return m.locks.release(ctx, id, func(g *Grant) bool { return g.name == name })
}
