package lock

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"disc/discovery"
	"disc/discovery/lease"
	"disc/discovery/life"
	"disc/discovery/quota"
	"disc/discovery/retry"
)

const (
	// callTimeout bounds one call to etcd.
	callTimeout = 3 * time.Second
	// lostRetention is the time for which Renew can return why a grant was lost.
	lostRetention = 10 * time.Minute
	// maxExpiryInterval bounds the time that a host takes, after a suspension, to notice
	// the grants that have expired meanwhile.
	maxExpiryInterval = time.Second
)

// Options are a manager's optional settings.
type Options struct {
	Node       string                // the agent's node, shown to callers that wait
	Space      *quota.Space          // must have space for a grant; nil: it always has
	Rate       *quota.Rate           // bounds the requests for grants; nil: no bound
	Logger     *slog.Logger          // default: discard
	Registerer prometheus.Registerer // registers the metrics; nil: none are registered
}

// Manager grants locks under an agent's session, and manages the grants of all [Issuer]s.
// See the package documentation. It is safe for concurrent use.
type Manager struct {
	client    *clientv3.Client
	keys      discovery.Keys
	session   *lease.Session
	life      *life.Life
	node      string
	space     *quota.Space
	rate      *quota.Rate
	log       *slog.Logger
	metrics   *metrics
	locks     *Issuer
	recheck   retry.Signal // a grant was added, or expires at another time
	activated retry.Signal // there is a grant to watch
	orphans   retry.Signal // etcd may have keys that belong to no grant
	marked    retry.Signal // marks has another key

	mu               sync.Mutex
	prefixes         []string          // of the keys of all issuers
	grants           map[string]*Grant // by id; lost ones for lostRetention
	marks            map[string]mark   // by key: of broken locks
	releasing        map[string]bool   // ids of released grants whose keys etcd may still have; false: they are orphans
	used             bool              // a grant was requested
	closed           bool
	grantEnded       chan struct{}    // closed when a grant ends
	outcomeUnknownAt time.Duration    // uptime of the last call that was not answered; 0: none
	verified         int              // the contact in which the keys of all grants were seen; -1: none
	verifiedAgain    chan struct{}    // closed when verified changes
	relied           lease.Lease      // the session's lease, as it was in that contact
	provenAt         time.Duration    // uptime at which a call was sent whose answer showed that etcd goes on
	watching         bool             // verifyLoop is not idle
	nextExpiry       time.Duration    // uptime at which expireLoop looks again
	holding          bool             // expireLoop has seen an active grant when it looked
	leaseID          clientv3.LeaseID // of the session, when noteLease was last called
}

// New returns a manager of grants in the present life of etcd. It expires no grants until Run is
// called. New fails when o.Registerer refuses the metrics.
func New(client *clientv3.Client, keys discovery.Keys, session *lease.Session, life *life.Life, o Options) (*Manager, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	collectors, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	m := &Manager{
		client: client, keys: keys, session: session, life: life, node: o.Node, space: o.Space, rate: o.Rate, log: o.Logger, metrics: collectors,
		recheck: retry.NewSignal(), activated: retry.NewSignal(), orphans: retry.NewSignal(), grantEnded: make(chan struct{}),
		grants: map[string]*Grant{}, releasing: map[string]bool{}, verified: -1, verifiedAgain: make(chan struct{}), marks: map[string]mark{}, marked: retry.NewSignal(),
	}
	m.locks = m.NewIssuer("lock", keys.Locks())
	return m, nil
}

// Life returns what knows the life of etcd.
func (m *Manager) Life() *life.Life { return m.life }

// Run expires grants that are not renewed or no longer safe, loses those whose keys are gone, and
// removes orphans and the keys of broken locks, until ctx ends. It then returns nil.
func (m *Manager) Run(ctx context.Context) error {
	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { m.expireLoop(ctx); return nil })
	running.Go(func() error { m.orphanLoop(ctx); return nil })
	running.Go(func() error { m.verifyLoop(ctx); return nil })
	running.Go(func() error { m.markLoop(ctx); return nil })
	return running.Wait()
}

// Close refuses new grants, marks all grants as lost, and gives their holders time to
// release them: until each has been released or is no longer relied on, or until ctx ends.
// It returns true if no key of a grant is left in etcd. Otherwise do not revoke the
// session's lease, but let it expire.
func (m *Manager) Close(ctx context.Context) (clean bool) {
	m.mu.Lock()
	m.closed = true
	for _, g := range m.grants {
		switch g.phase {
		case active:
			m.lose(g, g.lostBecause("this agent is stopping"))
		case pending:
			g.markLost(g.unavailable(agentStopping))
		}
	}
	m.mu.Unlock()
	m.recheck.Notify()
	for {
		m.mu.Lock()
		ended, left, used := m.grantEnded, m.countPhase(draining)+m.countPhase(pending), m.used
		m.mu.Unlock()
		if left == 0 {
			return !used || m.removeOrphans(ctx) == nil
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return false
		}
	}
}

// countPhase returns the number of grants in a phase. m.mu is held.
func (m *Manager) countPhase(p phase) int {
	n := 0
	for _, g := range m.grants {
		if g.phase == p {
			n++
		}
	}
	return n
}
