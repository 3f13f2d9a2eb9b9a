package lock

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/lease"
	"disc/discovery/life"
)

// Issuer issues grants of one kind under the session of a [Manager], which expires them and
// removes their orphans as it does for locks. It is safe for concurrent use.
//
// Its user owns the keys. A grant begins with [Issuer.Request]. The user then creates the
// grant's key under [PendingGrant.Lease] by [PendingGrant.Transact], and ends with [PendingGrant.Confirm]
// or [PendingGrant.Abandon].
type Issuer struct {
	manager *Manager
	kind    string
}

// NewIssuer returns an issuer of grants of a kind, whose keys all begin with prefix. The
// kind appears in errors, logs and metrics. The manager may delete any key that has the
// prefix, lies under the session's lease and belongs to no grant.
func (m *Manager) NewIssuer(kind, prefix string) *Issuer {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.prefixes = append(m.prefixes, prefix)
	return &Issuer{m, kind}
}

// Resource is the thing that a grant of an [Issuer] is for.
type Resource interface {
	// Gone returns the reason why the resource cannot be held any longer, or nil. A grant
	// is lost once its resource is gone. The manager calls Gone under its own mutex:
	// Gone must not block, or call the manager or a grant.
	Gone() error
	// Released is called after the key of the grant, created at revision created, was
	// deleted from etcd at a revision because the grant was released, or could not be
	// confirmed. It is not called for lost grants, whose keys are removed as orphans.
	Released(key string, created, revision int64)
}

// KeyOwner is a part of the value of each grant's key, which is a JSON object. By it the
// manager finds the grant of a key, and everybody its fence.
type KeyOwner struct {
	ID   string `json:"id"`             // [PendingGrant.ID]
	Base int64  `json:"base,omitempty"` // the fence is the key's create revision, added to this

	Broken *Broken `json:"broken,omitempty"` // nil: nobody has broken the grant
}

// EncodeRecord returns the value of a grant's key. The record embeds a [KeyOwner], and must have no
// field that JSON cannot encode.
func EncodeRecord(record any) string {
	value, err := json.Marshal(record)
	if err != nil {
		panic(err)
	}
	return string(value)
}

// PendingGrant is a grant that is not confirmed yet. Each must be confirmed or abandoned, once.
type PendingGrant struct{ grant *Grant }

// Request registers a grant, before any key of it is sent to etcd. The name is for people;
// ttl is the time for which the grant lasts without a renewal, 0: until it is released.
// ErrUnavailable: there is no session with etcd, it is not known for 3 s whether etcd goes on, or
// the manager is closed.
func (i *Issuer) Request(ctx context.Context, name string, ttl time.Duration) (*PendingGrant, error) {
	g := &Grant{name: name, ttl: ttl}
	if err := i.register(ctx, g); err != nil {
		return nil, err
	}
	return &PendingGrant{g}, nil
}

// recordSize is about the size of a grant's key with its value, in bytes.
const recordSize = 300

// Admit returns an error if a grant cannot be requested at the moment: an ErrStorageFull, an
// ErrBusy, or that of ctx. Call it once for each caller that asks for a grant, before the
// first [Issuer.Request] for it. What was granted goes on.
func (i *Issuer) Admit(ctx context.Context) error {
	if err := i.manager.space.Check(ctx, recordSize); err != nil {
		return err
	}
	return i.manager.rate.Take(ctx, 1)
}

const agentStopping = "this agent is stopping; ask again when it is back"

// register makes g a pending grant of the current session.
func (i *Issuer) register(ctx context.Context, g *Grant) error {
	m := i.manager
	g.manager, g.kind, g.lost = m, i.kind, make(chan struct{})
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := m.life.AwaitGuard(ctx); err != nil {
		return fmt.Errorf("%s %q: %w", g.kind, g.name, err)
	}
	current := m.reliable()
	m.noteLease()
	if current.id == 0 || current.session <= 0 {
		return g.unavailable("this agent has no session with etcd at the moment; try again, and see 'disc status'")
	}
	g.id, g.lease = newID(current.id), current.id
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return g.unavailable(agentStopping)
	}
	m.grants[g.id], m.used = g, true
	m.metrics.waiting.WithLabelValues(g.kind).Inc()
	if lease.Uptime()+maxExpiryInterval < m.nextExpiry {
		m.recheck.Notify()
	}
	return nil
}

// activate gives a pending grant to its caller, and starts its TTL. It fails with an error that is
// [life.Uncertain] if contact with etcd has broken since the grant's transaction.
func (m *Manager) activate(ctx context.Context, g *Grant) error {
	if err := m.awaitVerified(ctx, g.guard.Contact()); err != nil {
		return err
	}
	m.prove(g)
	current, now := m.reliable(), lease.Uptime()
	m.mu.Lock()
	defer m.mu.Unlock()
	contact, _ := m.session.Contact() // under m.mu: verifyLoop reads the keys of the next contact later
	switch {
	case g.err != nil:
		return g.err
	case m.closed:
		return g.unavailable(agentStopping)
	case contact != g.guard.Contact() || m.verified != contact:
		return life.ErrContactBroken
	}
	g.phase, g.activated, g.renewed, g.seenAt = active, now, now, g.sent
	if err := g.endReason(current, now); err != nil {
		g.phase = pending
		return err
	}
	m.metrics.waiting.WithLabelValues(g.kind).Dec()
	m.metrics.held.WithLabelValues(g.kind).Inc()
	m.metrics.granted.WithLabelValues(g.kind).Inc()
	if !m.holding || now+g.remaining(current, now) < m.nextExpiry {
		m.recheck.Notify()
	}
	if !m.watching {
		m.activated.Notify()
	}
	return nil
}

// prove notes that the answer to a grant's transaction has shown that etcd goes on.
func (m *Manager) prove(g *Grant) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if g.guard.Contact() == m.verified {
		m.provenAt = max(m.provenAt, g.sent)
	}
}

// awaitVerified waits until the keys of all grants were seen in a contact with etcd. It returns
// [life.ErrContactBroken] if that has broken, or ctx ends.
func (m *Manager) awaitVerified(ctx context.Context, contact int) error {
	for {
		m.mu.Lock()
		verified, changed := m.verified, m.verifiedAgain
		m.mu.Unlock()
		now, broken := m.session.Contact()
		if now != contact {
			return life.ErrContactBroken
		}
		if verified == contact {
			return nil
		}
		select {
		case <-changed:
		case <-broken:
		case <-ctx.Done():
			return life.ErrContactBroken
		}
	}
}

// ID returns the id of the grant: the [KeyOwner] of its key.
func (p *PendingGrant) ID() string { return p.grant.id }

// Lease returns the lease of the session, under which the grant's key is to lie.
func (p *PendingGrant) Lease() clientv3.LeaseID { return p.grant.lease }

// Transact sends to etcd the transaction that build makes for the base of the fences, within 3 s. It
// is carried out only in the present life of etcd, and not during a quarantine: the error is else
// [life.Uncertain]. If the outcome is unknown, the manager looks for orphans during the next minute.
// ErrUnavailable: etcd does not know the lease any more, so the session is lost.
func (p *PendingGrant) Transact(ctx context.Context, build func(base int64) clientv3.Op) (*clientv3.TxnResponse, error) {
	return p.grant.transact(ctx, build)
}

// Confirm activates the grant: its key was created at a revision, and its TTL starts now. If the
// session, the manager or the resource has ended meanwhile, Confirm deletes the key and returns
// why: ErrUnavailable or ErrLost.
func (p *PendingGrant) Confirm(ctx context.Context, key string, created int64, r Resource) (*Grant, error) {
	g, m := p.grant, p.grant.manager
	m.mu.Lock()
	g.key, g.created, g.resource = key, created, r
	m.mu.Unlock()
	if err := m.activate(ctx, g); err != nil {
		m.forget(g)
		_, _ = m.deleteKey(ctx, g) // on an error it is removed as an orphan
		return nil, err
	}
	return g, nil
}

// Abandon drops the grant. The manager removes its key, if etcd has one.
func (p *PendingGrant) Abandon() {
	p.grant.manager.forget(p.grant)
	p.grant.manager.orphans.Notify()
}

// Renew restarts the TTL of a grant. ErrNotFound: this issuer knows no grant of that id;
// ErrLost: the grant is lost, and the error says why.
func (i *Issuer) Renew(id string) (*Grant, error) { return i.renew(id, anyGrant) }

// Release releases a grant. It returns true if etcd does not have the grant's key any more,
// also for a grant that is not known any more. Otherwise the key goes as soon as etcd answers,
// or with the session of the agent that issued the grant, which is another agent or an earlier
// run.
//
// ErrLost: the grant had ended before it was released, so that another caller may have got the
// lock meanwhile; the error says why. Release returns it each time for ten minutes. A grant that
// is lost, but whose key stays for as long as its holder was promised, is released without an
// error: nobody else can have had it.
func (i *Issuer) Release(ctx context.Context, id string) (done bool, err error) {
	return i.release(ctx, id, anyGrant)
}

func anyGrant(*Grant) bool { return true }

func (i *Issuer) renew(id string, match func(*Grant) bool) (*Grant, error) {
	m := i.manager
	current, now := m.reliable(), lease.Uptime()
	m.mu.Lock()
	defer m.mu.Unlock()
	g, ok := i.find(id, match, current, now)
	switch {
	case !ok:
		return nil, discovery.Errorf(discovery.ErrNotFound, "no %s is held under the id %q: it was released, the agent was restarted, or another agent has granted it; renew it there, or ask for another", i.kind, id)
	case g.err != nil:
		return nil, g.err
	}
	g.renewed = now
	return g, nil
}

func (i *Issuer) release(ctx context.Context, id string, match func(*Grant) bool) (done bool, err error) {
	m := i.manager
	current, now := m.reliable(), lease.Uptime()
	m.mu.Lock()
	g, ok := i.find(id, match, current, now)
	switch {
	case !ok:
		_, releasing := m.releasing[id]
		m.mu.Unlock()
		return !releasing && !m.isForeign(id), nil
	case g.phase == ended:
		defer m.mu.Unlock()
		return false, g.err
	}
	m.releasing[g.id] = true // it is no orphan yet
	m.drop(g)
	m.mu.Unlock()
	deleted, err := m.deleteKey(ctx, g)
	m.mu.Lock()
	if err == nil {
		delete(m.releasing, g.id)
	} else {
		m.releasing[g.id] = false
	}
	m.mu.Unlock()
	switch {
	case err != nil:
		m.orphans.Notify()
		return false, nil // it is removed as an orphan
	case !deleted:
		return false, m.loseReleased(g)
	}
	return true, nil
}

// loseReleased marks a grant as lost whose key was gone when it was released, and returns why.
func (m *Manager) loseReleased(g *Grant) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if g.err == nil {
		m.metrics.lost.WithLabelValues(g.kind).Inc()
	}
	g.markLost(g.lostBecause("its key in etcd was gone when it was released"))
	m.grants[g.id] = g
	m.recheck.Notify()
	return g.err
}

// find returns the grant of an id, which may be lost but not pending. A grant that has expired is
// lost even if that was not noticed yet. manager.mu is held.
func (i *Issuer) find(id string, match func(*Grant) bool, current reliable, now time.Duration) (*Grant, bool) {
	g, ok := i.manager.grants[id]
	if !ok || g.kind != i.kind || g.phase == pending || !match(g) {
		return nil, false
	}
	i.manager.expireIfDue(g, current, now)
	return g, true
}

// isForeign reports whether an id is of another session than the current one.
func (m *Manager) isForeign(id string) bool {
	session, _, isID := strings.Cut(id, "-")
	current, _ := m.session.Lease()
	return isID && session != sessionText(current.ID)
}

// Names returns the names of all grants that are pending, active or were lost in the last
// ten minutes, in no order, and each as often as it has grants.
func (i *Issuer) Names() []string {
	i.manager.mu.Lock()
	defer i.manager.mu.Unlock()
	var names []string
	for _, g := range i.manager.grants {
		if g.kind == i.kind {
			names = append(names, g.name)
		}
	}
	return names
}

// CountWaiting counts one caller more that waits for a grant in the metrics, until done is
// called. Pending grants are counted without it.
func (i *Issuer) CountWaiting() (done func()) {
	waiting := i.manager.metrics.waiting.WithLabelValues(i.kind)
	waiting.Inc()
	return waiting.Dec
}
