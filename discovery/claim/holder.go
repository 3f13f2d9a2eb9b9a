package claim

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"disc/discovery"
	"disc/discovery/lease"
)

const (
	// callTimeout bounds one call to etcd.
	callTimeout = 3 * time.Second
	// lostRetention is how long a holder that asks is told why it has lost a grant.
	lostRetention = 10 * time.Minute
	// maxExpiryInterval bounds how long a host that was suspended takes to notice what has
	// ended meanwhile.
	maxExpiryInterval = time.Second
)

// Options are a holder's optional settings.
type Options struct {
	Node             string                // the agent's, to be shown to those who wait
	ProgressInterval func() time.Duration  // how long etcd may go unasked; default: of [follow.Options]
	Logger           *slog.Logger          // default: discard
	Registerer       prometheus.Registerer // collects the metrics; nil: nobody does
}

// Manager holds what it is asked for under an agent's session. See the package's
// documentation.
type Manager struct {
	client  *clientv3.Client
	keys    discovery.Keys
	session *lease.Session
	node    string
	quiet   func() time.Duration
	log     *slog.Logger
	metrics *metrics
	recheck chan struct{} // size one: there is another grant, or another time when one ends
	orphans chan struct{} // size one: something may lie in etcd that belongs to nobody

	mu               sync.Mutex
	grants           map[string]*Grant // by id; those that are lost, for a while
	used             bool              // something was asked for
	closed           bool
	ended            chan struct{} // closed when a grant ends
	outcomeUnknownAt time.Duration // uptime of the last call that was not answered; 0: none
}

// New returns a holder. It grants nothing until Run runs. The error is that of metrics
// that cannot be registered.
func New(client *clientv3.Client, keys discovery.Keys, session *lease.Session, o Options) (*Manager, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	return &Manager{
		client: client, keys: keys, session: session, node: o.Node, quiet: o.ProgressInterval, log: o.Logger, metrics: m,
		recheck: make(chan struct{}, 1), orphans: make(chan struct{}, 1), ended: make(chan struct{}),
		grants: map[string]*Grant{},
	}, nil
}

// Run ends what is not renewed or not safe any more, and clears away what is left of
// it, until ctx ends. It returns nil then.
func (h *Manager) Run(ctx context.Context) error {
	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { h.expireLoop(ctx); return nil })
	running.Go(func() error { h.orphanLoop(ctx); return nil })
	return running.Wait()
}

const stoppingText = "this agent is stopping; ask again when it is back"

// enter notes that a grant is asked for, before etcd hears of it.
func (h *Manager) enter(g *Grant) (*Grant, error) {
	current, _ := h.session.Lease()
	if current.ID == 0 || Remaining(current) <= 0 {
		return nil, g.unavailable("this agent has no session with etcd at the moment; try again, and see 'disc status'")
	}
	g.holder, g.id, g.lease, g.lost = h, newID(current.ID), current.ID, make(chan struct{})
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, g.unavailable(stoppingText)
	}
	h.grants[g.id], h.used = g, true
	h.metrics.waiting.WithLabelValues(string(g.kind)).Inc()
	signal(h.recheck)
	return g, nil
}

// grant gives the caller what etcd holds for it; its TTL begins.
func (h *Manager) grant(g *Grant) error {
	current, _ := h.session.Lease()
	now := lease.Uptime()
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case g.err != nil:
		return g.err
	case h.closed:
		return g.unavailable(stoppingText)
	}
	g.phase, g.renewed = active, now
	if err := g.endReason(current, now); err != nil {
		g.phase = pending
		return err
	}
	h.metrics.waiting.WithLabelValues(string(g.kind)).Dec()
	h.metrics.held.WithLabelValues(string(g.kind)).Inc()
	h.metrics.granted.WithLabelValues(string(g.kind)).Inc()
	signal(h.recheck)
	return nil
}

// Renew begins the TTL of a grant anew. The ids of claims are enough without a name.
// ErrNotFound: this agent knows of no such grant;
// ErrLost: it has ended, and this says why.
func (h *Manager) Renew(kind Kind, name, id string) (*Grant, error) {
	h.expire() // what is over is over, whether or not that was noticed
	h.mu.Lock()
	defer h.mu.Unlock()
	g, ok := h.find(kind, name, id)
	switch {
	case !ok:
		return nil, discovery.Errorf(discovery.ErrNotFound, "no %s is held under the id %q: it was released, the agent was restarted, or another agent has granted it; renew it there, or ask for another", kind, id)
	case g.err != nil:
		return nil, g.err
	}
	g.renewed = lease.Uptime()
	signal(h.recheck)
	return g, nil
}

// find returns what a caller got, and may have lost since. h.mu is held.
func (h *Manager) find(kind Kind, name, id string) (*Grant, bool) {
	g, ok := h.grants[id]
	return g, ok && g.kind == kind && (g.name == name || kind == KindClaim) && g.phase != pending
}

// Release gives a grant back, whether it is held, lost or not known any more. done
// tells that etcd has let it go; else it will, as soon as it answers, or with the session
// of the agent that granted it, which is another than this or was started before.
func (h *Manager) Release(ctx context.Context, kind Kind, name, id string) (done bool) {
	h.mu.Lock()
	g, ok := h.find(kind, name, id)
	if !ok {
		h.mu.Unlock()
		return !h.foreign(id)
	}
	held := g.phase != ended
	h.forget(g)
	h.mu.Unlock()
	return !held || h.remove(ctx, g)
}

// foreign reports whether an id is of another session than the holder's.
func (h *Manager) foreign(id string) bool {
	session, _, isID := strings.Cut(id, "-")
	current, _ := h.session.Lease()
	return isID && session != sessionText(current.ID)
}

// Close grants nothing more, tells all holders that they have lost what they hold, and
// gives them time to let go of it: until all have or may not rely on it any more, or ctx
// ends. It reports whether all have; else the session's lease must be left to lapse.
func (h *Manager) Close(ctx context.Context) (clean bool) {
	h.mu.Lock()
	h.closed = true
	for _, g := range h.grants {
		switch g.phase {
		case active:
			h.lose(g, g.lostBecause("this agent is stopping"), draining)
		case pending:
			g.markLost(g.unavailable(stoppingText))
		}
	}
	h.mu.Unlock()
	signal(h.recheck)
	for {
		h.mu.Lock()
		changed, left, used := h.ended, h.countPhase(draining)+h.countPhase(pending), h.used
		h.mu.Unlock()
		if left == 0 {
			return !used || h.removeOrphans(ctx) == nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// countPhase is how many grants are in a phase. h.mu is held.
func (h *Manager) countPhase(p phase) int {
	n := 0
	for _, g := range h.grants {
		if g.phase == p {
			n++
		}
	}
	return n
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
