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
	// callTime bounds one call to etcd.
	callTime = 3 * time.Second
	// rememberLost is how long a holder that asks is told why it has lost a grant.
	rememberLost = 10 * time.Minute
	// lookEvery bounds how long a host that was suspended takes to notice what has
	// ended meanwhile.
	lookEvery = time.Second
)

// Options are a holder's optional settings.
type Options struct {
	Node             string                // the agent's, to be shown to those who wait
	ProgressInterval func() time.Duration  // how long etcd may go unasked; default: of [follow.Options]
	Logger           *slog.Logger          // default: discard
	Registerer       prometheus.Registerer // collects the metrics; nil: nobody does
}

// Holder holds what it is asked for under an agent's session. See the package's
// documentation.
type Holder struct {
	client  *clientv3.Client
	keys    discovery.Keys
	session *lease.Session
	node    string
	quiet   func() time.Duration
	log     *slog.Logger
	metrics *metrics
	look    chan struct{} // size one: there is another grant, or another time when one ends
	clean   chan struct{} // size one: something may lie in etcd that belongs to nobody

	mu      sync.Mutex
	grants  map[string]*Grant // by id; those that are lost, for a while
	used    bool              // something was asked for
	closed  bool
	changed chan struct{} // closed when a grant ends
	doubt   time.Duration // uptime of the last call that was not answered; 0: none
}

// New returns a holder. It grants nothing until Run runs. The error is that of metrics
// that cannot be registered.
func New(client *clientv3.Client, keys discovery.Keys, session *lease.Session, o Options) (*Holder, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	return &Holder{
		client: client, keys: keys, session: session, node: o.Node, quiet: o.ProgressInterval, log: o.Logger, metrics: m,
		look: make(chan struct{}, 1), clean: make(chan struct{}, 1), changed: make(chan struct{}),
		grants: map[string]*Grant{},
	}, nil
}

// Run ends what is not renewed or not safe any more, and clears away what is left of
// it, until ctx ends. It returns nil then.
func (h *Holder) Run(ctx context.Context) error {
	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { h.watch(ctx); return nil })
	running.Go(func() error { h.sweepUp(ctx); return nil })
	return running.Wait()
}

const stopping = "this agent is stopping; ask again when it is back"

// enter notes that a grant is asked for, before etcd hears of it.
func (h *Holder) enter(g *Grant) (*Grant, error) {
	current, _ := h.session.Lease()
	if current.ID == 0 || Remaining(current) <= 0 {
		return nil, g.unavailable("this agent has no session with etcd at the moment; try again, and see 'disc status'")
	}
	g.holder, g.id, g.lease, g.lost = h, newID(current.ID), current.ID, make(chan struct{})
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, g.unavailable(stopping)
	}
	h.grants[g.id], h.used = g, true
	h.metrics.waiting.WithLabelValues(string(g.kind)).Inc()
	signal(h.look)
	return g, nil
}

// grant gives the caller what etcd holds for it; its TTL begins.
func (h *Holder) grant(g *Grant) error {
	current, _ := h.session.Lease()
	now := lease.Uptime()
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case g.err != nil:
		return g.err
	case h.closed:
		return g.unavailable(stopping)
	}
	g.phase, g.renewed = granted, now
	if err := g.verdict(current, now); err != nil {
		g.phase = asking
		return err
	}
	h.metrics.waiting.WithLabelValues(string(g.kind)).Dec()
	h.metrics.held.WithLabelValues(string(g.kind)).Inc()
	h.metrics.granted.WithLabelValues(string(g.kind)).Inc()
	signal(h.look)
	return nil
}

// Renew begins the TTL of a grant anew. The ids of claims are enough without a name.
// ErrNotFound: this agent knows of no such grant;
// ErrLost: it has ended, and this says why.
func (h *Holder) Renew(kind Kind, name, id string) (*Grant, error) {
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
	signal(h.look)
	return g, nil
}

// find returns what a caller got, and may have lost since. h.mu is held.
func (h *Holder) find(kind Kind, name, id string) (*Grant, bool) {
	g, ok := h.grants[id]
	return g, ok && g.kind == kind && (g.name == name || kind == KindClaim) && g.phase != asking
}

// Release gives a grant back, whether it is held, lost or not known any more. done
// tells that etcd has let it go; else it will, as soon as it answers, or with the session
// of the agent that granted it, which is another than this or was started before.
func (h *Holder) Release(ctx context.Context, kind Kind, name, id string) (done bool) {
	h.mu.Lock()
	g, ok := h.find(kind, name, id)
	if !ok {
		h.mu.Unlock()
		return !h.foreign(id)
	}
	held := g.phase != finished
	h.forget(g)
	h.mu.Unlock()
	return !held || h.remove(ctx, g)
}

// foreign reports whether an id is of another session than the holder's.
func (h *Holder) foreign(id string) bool {
	session, _, isID := strings.Cut(id, "-")
	current, _ := h.session.Lease()
	return isID && session != sessionText(current.ID)
}

// Close grants nothing more, tells all holders that they have lost what they hold, and
// gives them time to let go of it: until all have or may not rely on it any more, or ctx
// ends. It reports whether all have; else the session's lease must be left to lapse.
func (h *Holder) Close(ctx context.Context) (clean bool) {
	h.mu.Lock()
	h.closed = true
	for _, g := range h.grants {
		switch g.phase {
		case granted:
			h.end(g, g.lostBecause("this agent is stopping"), letGo)
		case asking:
			g.fail(g.unavailable(stopping))
		}
	}
	h.mu.Unlock()
	signal(h.look)
	for {
		h.mu.Lock()
		changed, left, used := h.changed, h.count(letGo)+h.count(asking), h.used
		h.mu.Unlock()
		if left == 0 {
			return !used || h.sweep(ctx) == nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// count is how many grants are in a phase. h.mu is held.
func (h *Holder) count(p phase) int {
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
