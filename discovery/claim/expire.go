package claim

import (
	"context"
	"time"

	"disc/discovery/lease"
)

// watch ends grants when their time is over, until ctx ends.
func (h *Holder) watch(ctx context.Context) {
	for {
		_, changed := h.session.Lease()
		next := time.NewTimer(h.expire())
		select {
		case <-changed:
		case <-h.look:
		case <-next.C:
		case <-ctx.Done():
			next.Stop()
			return
		}
		next.Stop()
	}
}

// expire ends the grants whose time is over, and returns when to look again.
func (h *Holder) expire() time.Duration {
	current, _ := h.session.Lease()
	now := lease.Uptime()
	h.mu.Lock()
	defer h.mu.Unlock()
	next := rememberLost
	for id, g := range h.grants {
		switch g.phase {
		case asking, granted:
			if err := g.verdict(current, now); err != nil {
				h.expired(g, err)
			} else if g.phase == granted {
				next = min(next, g.remaining(current, now), lookEvery)
			}
		case letGo:
			if next = min(next, g.promised-now, lookEvery); now >= g.promised {
				h.finish(g)
			}
		case finished:
			if now >= g.ended+rememberLost {
				delete(h.grants, id)
			}
		}
	}
	return max(next, time.Millisecond)
}

// expired ends a grant that somebody holds or waits for. h.mu is held.
func (h *Holder) expired(g *Grant, why error) {
	if g.phase == asking {
		g.fail(why)
		return
	}
	h.log.Warn("a grant is lost", "kind", g.kind, "name", g.name, "id", g.id, "reason", why)
	h.end(g, why, finished)
}

// end tells the holder of a grant that it is lost. h.mu is held.
func (h *Holder) end(g *Grant, why error, next phase) {
	h.metrics.lost.WithLabelValues(string(g.kind)).Inc()
	h.metrics.held.WithLabelValues(string(g.kind)).Dec()
	g.fail(why)
	g.phase = next
	if next == finished {
		h.finish(g)
	}
}

// fail notes why a grant is lost. holder.mu is held.
func (g *Grant) fail(why error) {
	if g.err == nil {
		g.err, g.ended = why, lease.Uptime()
		close(g.lost)
	}
}

// finish leaves what is left of a grant to the sweep. h.mu is held.
func (h *Holder) finish(g *Grant) {
	g.phase = finished
	h.tell()
	signal(h.clean)
}

// tell wakes who waits for grants to end. h.mu is held.
func (h *Holder) tell() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// forget drops a grant that its holder gave back, or that came to nothing. h.mu is held.
func (h *Holder) forget(g *Grant) {
	switch g.phase {
	case asking:
		h.metrics.waiting.WithLabelValues(string(g.kind)).Dec()
	case granted:
		h.metrics.held.WithLabelValues(string(g.kind)).Dec()
	}
	g.phase = finished
	delete(h.grants, g.id)
	h.tell()
}
