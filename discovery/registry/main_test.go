package registry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/lease"
	"disc/discovery/life"
	"disc/discovery/view"
)

func TestMain(m *testing.M) { etcdtest.Main(m) }

var keys = discovery.NewKeys("test")

// sessionTTL is a TTL that no delay of a slow machine outlasts.
const sessionTTL = time.Minute

// emptyView is a view that never has a snapshot.
type emptyView struct{}

func (emptyView) View() (view.View, error)         { return view.View{}, discovery.ErrUnavailable }
func (emptyView) Changed(string) <-chan struct{}   { return nil }
func (emptyView) Has(...discovery.Scope) bool      { return false }
func (emptyView) Retain(...discovery.Scope) func() { return func() {} }

// fakeView is a view that shows the changes that it is given.
type fakeView struct {
	mu       sync.Mutex
	snapshot *view.Snapshot
	changed  chan struct{}
	without  []discovery.Scope // that etcd forbids to read
	asked    int               // how often whether it has some scopes
}

func (s *fakeView) View() (view.View, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.snapshot == nil {
		return view.View{}, discovery.ErrUnavailable
	}
	return view.View{Snapshot: s.snapshot}, nil
}

func (s *fakeView) now() *view.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.snapshot
}

func (s *fakeView) Has(scopes ...discovery.Scope) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	return !slices.ContainsFunc(scopes, func(scope discovery.Scope) bool { return slices.Contains(s.without, scope) })
}

func (s *fakeView) Retain(...discovery.Scope) func() { return func() {} }

func (s *fakeView) Changed(string) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// begin shows an empty snapshot.
func (s *fakeView) begin(revision int64, epoch string) {
	s.mu.Lock()
	s.snapshot = view.EmptySnapshot().WithEpoch(epoch)
	s.mu.Unlock()
	s.show(revision)
}

func (s *fakeView) show(revision int64, changes ...view.Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.snapshot, _, _ = s.snapshot.Apply(revision, changes)
	for _, scope := range s.without {
		s.snapshot = s.snapshot.Without(scope)
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// watchView returns a view that shows etcd's changes until the test ends, as the catalog
// does.
func watchView(t *testing.T, client *clientv3.Client) *fakeView {
	t.Helper()
	s := &fakeView{changed: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	from, to := keys.CatalogRange()
	listed, err := client.Get(ctx, from, clientv3.WithRange(to))
	if err != nil {
		t.Fatal(err)
	}
	change := func(kv *mvccpb.KeyValue) view.Change {
		return view.Change{Key: keys.Parse(string(kv.Key)), Value: kv.Value, Created: kv.CreateRevision, Modified: kv.ModRevision, Lease: kv.Lease}
	}
	s.begin(0, "")
	for _, kv := range listed.Kvs {
		s.show(listed.Header.Revision, change(kv))
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for r := range client.Watch(ctx, from, clientv3.WithRange(to), clientv3.WithRev(listed.Header.Revision+1)) {
			for _, e := range r.Events {
				s.show(e.Kv.ModRevision, change(e.Kv))
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

// agent is a running session and registry.
type agent struct {
	*Registry
	t       *testing.T
	etcd    *clientv3.Client // the test's own
	session *lease.Session
	stop    func() // ends both; the records stay until the lease expires
}

// settings of an agent.
type settings struct {
	run            string           // default: run
	endpoint       string           // that the agent uses; default: etcd's own
	client         *clientv3.Client // the agent's; default: one of endpoint
	view           View             // default: one that shows etcd
	log            io.Writer        // default: the test's
	resyncInterval time.Duration
	hideOutput     bool
	life           *life.Life // default: none
}

// start runs an agent on an etcd.
func start(t *testing.T, etcd string, s settings) *agent {
	t.Helper()
	a := &agent{t: t, etcd: etcdtest.Client(t, etcd)}
	if s.run == "" {
		s.run = "run"
	}
	if s.endpoint == "" {
		s.endpoint = etcd
	}
	if s.view == nil {
		s.view = watchView(t, a.etcd)
	}
	if s.client == nil {
		s.client = etcdtest.Client(t, s.endpoint)
	}
	if s.log == nil {
		s.log = t.Output()
	}
	a.session = etcdtest.Must(lease.New(s.client, sessionTTL, lease.Options{}))
	node := discovery.Node{Node: "here", Agent: "owner"}
	a.Registry = etcdtest.Must(New(s.client, keys, a.session, s.view, Identity{Owner: "owner", RunID: s.run, Node: node},
		Options{ResyncInterval: s.resyncInterval, HideOutput: s.hideOutput, Life: s.life, Logger: slog.New(slog.NewTextHandler(s.log, nil))}))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { a.session.Run(ctx) })
	running.Go(func() {
		if err := a.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	a.stop = sync.OnceFunc(func() { cancel(); running.Wait(); checkInvariants(t, a.Registry) })
	t.Cleanup(a.stop)
	return a
}

// instance returns an instance whose checks pass.
func instance(id string) discovery.Instance {
	return discovery.Instance{Service: "web", ID: id, Address: "10.0.0.5", Port: 80, Weight: 1, Slots: 1, Status: discovery.Passing}
}

// awaitSettled waits until an instance is written, is in conflict or has left.
func (a *agent) awaitSettled(id string) State {
	a.t.Helper()
	s, err := a.AwaitSettled(bounded(a.t), "web", id)
	if err != nil {
		a.t.Fatalf("web/%s: %v; %+v", id, err, s)
	}
	return s
}

// putAndAwait puts an instance and waits until it is written.
func (a *agent) putAndAwait(id string) State {
	a.t.Helper()
	a.Put(instance(id))
	s := a.awaitSettled(id)
	if s.Phase != PhaseWritten {
		a.t.Fatalf("web/%s is %+v", id, s)
	}
	return s
}

// bounded returns a context that ends after a minute.
func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// kv returns an instance's key as it is in etcd.
func (a *agent) kv(id string) (kv *mvccpb.KeyValue, ok bool) {
	a.t.Helper()
	r, err := a.etcd.Get(bounded(a.t), keys.Instance("web", id))
	if err != nil {
		a.t.Fatal(err)
	}
	if len(r.Kvs) == 0 {
		return &mvccpb.KeyValue{}, false
	}
	return r.Kvs[0], true
}

// record returns an instance's record in etcd; the zero value: there is none that can be
// decoded.
func (a *agent) record(id string) discovery.Instance {
	a.t.Helper()
	kv, _ := a.kv(id)
	i, err := discovery.DecodeInstance(kv.Value)
	if err != nil {
		return discovery.Instance{}
	}
	return i
}

// revokeLease ends the lease of the agent's session, and has the session notice.
func (a *agent) revokeLease() (revoked clientv3.LeaseID) {
	a.t.Helper()
	revoked = a.lease()
	if _, err := a.etcd.Revoke(bounded(a.t), revoked); err != nil {
		a.t.Fatal(err)
	}
	a.session.Verify(revoked)
	return revoked
}

func (a *agent) lease() clientv3.LeaseID {
	l, _ := a.session.Lease()
	return l.ID
}

// ownsRecord reports whether an instance's record in etcd is the one of this agent.
func (a *agent) ownsRecord(id string) bool {
	a.t.Helper()
	kv, ok := a.kv(id)
	i, err := discovery.DecodeInstance(kv.Value)
	return ok && err == nil && clientv3.LeaseID(kv.Lease) == a.lease() && i.Run == a.identity.RunID && i.ID == id && i.Status == discovery.Passing && !i.Leaving
}

func (a *agent) put(id, value string, opts ...clientv3.OpOption) {
	a.t.Helper()
	if _, err := a.etcd.Put(bounded(a.t), keys.Instance("web", id), value, opts...); err != nil {
		a.t.Fatal(err)
	}
}

func (a *agent) delete(id string) {
	a.t.Helper()
	if _, err := a.etcd.Delete(bounded(a.t), keys.Instance("web", id)); err != nil {
		a.t.Fatal(err)
	}
}

// history returns all events of an instance's key: P for a put, T for a tombstone, D for a
// deletion.
func (a *agent) history(id string) string {
	a.t.Helper()
	mark, err := a.etcd.Put(bounded(a.t), keys.Instance("web", id)+"-mark", "")
	if err != nil {
		a.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(bounded(a.t))
	defer cancel()
	var story string
	for r := range a.etcd.Watch(ctx, keys.Instance("web", id), clientv3.WithPrefix(), clientv3.WithRev(1)) {
		for _, e := range r.Events {
			if e.Kv.ModRevision == mark.Header.Revision {
				return story
			}
			if string(e.Kv.Key) != keys.Instance("web", id) {
				continue
			}
			i, _ := discovery.DecodeInstance(e.Kv.Value)
			switch {
			case e.Type == clientv3.EventTypeDelete:
				story += "D"
			case i.Leaving:
				story += "T"
			default:
				story += "P"
			}
		}
	}
	a.t.Fatal("the watch ended")
	return ""
}

// foreign returns the record of another agent.
func foreign(id, owner, run, more string) string {
	return fmt.Sprintf(`{"service":"web","id":%q,"address":"10.0.0.9","node":"elsewhere","owner":%q,"run":%q%s}`, id, owner, run, more)
}
