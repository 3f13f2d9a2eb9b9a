package claim

import (
	"context"
	"time"

	"disc/discovery/lease"
)

// expireLoop ends grants when their time is over, until ctx ends.
func (h *Manager) expireLoop(ctx context.Context) {
	for {
		_, changed := h.session.Lease()
		next := time.NewTimer(h.expire())
		select {
		case <-changed:
		case <-h.recheck:
		case <-next.C:
		case <-ctx.Done():
			next.Stop()
			return
		}
		next.Stop()
	}
}

// expire ends the grants whose time is over, and returns when to look again.
func (h *Manager) expire() time.Duration {
	current, _ := h.session.Lease()
	now := lease.Uptime()
	h.mu.Lock()
	defer h.mu.Unlock()
	next := lostRetention
	for id, g := range h.grants {
		switch g.phase {
		case pending, active:
			if err := g.endReason(current, now); err != nil {
				h.expired(g, err)
			} else if g.phase == active {
				next = min(next, g.remaining(current, now), maxExpiryInterval)
			}
		case draining:
			if next = min(next, g.promised-now, maxExpiryInterval); now >= g.promised {
				h.finish(g)
			}
		case ended:
			if now >= g.ended+lostRetention {
				delete(h.grants, id)
			}
		}
	}
	return max(next, time.Millisecond)
}

// expired ends a grant that somebody holds or waits for. h.mu is held.
func (h *Manager) expired(g *Grant, why error) {
	if g.phase == pending {
		g.markLost(why)
		return
	}
	h.log.Warn("a grant is lost", "kind", g.kind, "name", g.name, "id", g.id, "reason", why)
	h.lose(g, why, ended)
}

// lose tells the holder of a grant that it is lost. h.mu is held.
func (h *Manager) lose(g *Grant, why error, next phase) {
	h.metrics.lost.WithLabelValues(string(g.kind)).Inc()
	h.metrics.held.WithLabelValues(string(g.kind)).Dec()
	g.markLost(why)
	g.phase = next
	if next == ended {
		h.finish(g)
	}
}

// markLost notes why a grant is lost. holder.mu is held.
func (g *Grant) markLost(why error) {
	if g.err == nil {
		g.err, g.ended = why, lease.Uptime()
		close(g.lost)
	}
}

// finish leaves what is left of a grant to the sweep. h.mu is held.
func (h *Manager) finish(g *Grant) {
	g.phase = ended
	h.notifyEnded()
	signal(h.orphans)
}

// notifyEnded wakes who waits for grants to end. h.mu is held.
func (h *Manager) notifyEnded() {
	close(h.ended)
	h.ended = make(chan struct{})
}

// forget drops a grant that its holder gave back, or that came to nothing. h.mu is held.
func (h *Manager) forget(g *Grant) {
	switch g.phase {
	case pending:
		h.metrics.waiting.WithLabelValues(string(g.kind)).Dec()
	case active:
		h.metrics.held.WithLabelValues(string(g.kind)).Dec()
	}
	g.phase = ended
	delete(h.grants, g.id)
	h.notifyEnded()
}
