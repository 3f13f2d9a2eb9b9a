package lock

import (
	"context"
	"time"

	"disc/discovery/lease"
)

// expireLoop ends grants when their time is over, until ctx ends.
func (m *Manager) expireLoop(ctx context.Context) {
	for {
		_, changed := m.session.Lease()
		next := time.NewTimer(m.expire())
		select {
		case <-changed:
		case <-m.recheck:
		case <-next.C:
		case <-ctx.Done():
			next.Stop()
			return
		}
		next.Stop()
	}
}

// expire ends the grants whose time is over, and returns the time until the next check.
func (m *Manager) expire() time.Duration {
	current, now := m.reliable(), lease.Uptime()
	m.mu.Lock()
	defer m.mu.Unlock()
	next := lostRetention
	m.holding = false
	for id, g := range m.grants {
		m.expireIfDue(g, current, now)
		switch g.phase {
		case pending:
			next = min(next, maxExpiryInterval)
		case active:
			next, m.holding = min(next, g.remaining(current, now), maxExpiryInterval), true
		case draining:
			next = min(next, g.promised-now, maxExpiryInterval)
		case ended:
			if now >= g.lostAt+lostRetention {
				delete(m.grants, id)
			}
		}
	}
	if m.holding {
		next = min(next, m.renewSession(current))
	}
	next = max(next, time.Millisecond)
	m.nextExpiry = now + next
	return next
}

// expireIfDue ends a grant if its time is over. m.mu is held.
func (m *Manager) expireIfDue(g *Grant, current reliable, now time.Duration) {
	switch g.phase {
	case pending, active:
		if err := g.endReason(current, now); err != nil {
			m.expireGrant(g, err)
		}
	case draining:
		if now >= g.promised {
			m.end(g)
		}
	}
}

// renewSession renews the session's lease early where promises are shorter than its TTL, and
// returns the time until that is due again. m.mu is held.
func (m *Manager) renewSession(current reliable) time.Duration {
	interval := m.life.MaxPromise() / 3
	due := interval - (lease.Uptime() - m.provenAt)
	if due > 0 {
		return due
	}
	m.session.Verify(current.id)
	return interval
}

// expireGrant ends a pending or active grant. m.mu is held.
func (m *Manager) expireGrant(g *Grant, reason error) {
	if g.phase == pending {
		g.markLost(reason)
		return
	}
	m.log.Warn("a grant is lost", "kind", g.kind, "name", g.name, "id", g.id, "reason", reason)
	m.lose(g, reason)
}

// lose marks an active grant as lost. Its key stays for as long as its holder was promised that
// nobody else gets it. m.mu is held.
func (m *Manager) lose(g *Grant, reason error) {
	m.metrics.lost.WithLabelValues(g.kind).Inc()
	m.metrics.held.WithLabelValues(g.kind).Dec()
	g.markLost(reason)
	g.phase = draining
	if lease.Uptime() >= g.promised {
		m.end(g)
	} else {
		m.recheck.Notify()
	}
}

// markLost records why a grant is lost and closes its Lost channel. manager.mu is held.
func (g *Grant) markLost(reason error) {
	if g.err == nil {
		g.err, g.lostAt = reason, lease.Uptime()
		close(g.lost)
	}
}

// end moves a lost grant to the phase ended; its key is now an orphan. m.mu is held.
func (m *Manager) end(g *Grant) {
	g.phase = ended
	m.notifyEnded()
	m.orphans.Notify()
}

// notifyEnded wakes Close, which waits for grants to end. m.mu is held.
func (m *Manager) notifyEnded() {
	close(m.grantEnded)
	m.grantEnded = make(chan struct{})
}

// drop removes a grant that was released or never became active. m.mu is held.
func (m *Manager) drop(g *Grant) {
	switch g.phase {
	case pending:
		m.metrics.waiting.WithLabelValues(g.kind).Dec()
	case active:
		m.metrics.held.WithLabelValues(g.kind).Dec()
	}
	g.phase = ended
	delete(m.grants, g.id)
	m.notifyEnded()
}

// forget is drop for callers that do not hold m.mu.
func (m *Manager) forget(g *Grant) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(g)
}
