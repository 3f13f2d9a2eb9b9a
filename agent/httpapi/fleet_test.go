package httpapi

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/view"
)

// fleet is a catalog, a registrar, overrides and an agent in memory. Snapshot.Apply takes
// the place of etcd and of the other parts of the agent.
type fleet struct {
	lock         sync.Mutex
	keys         discovery.Keys
	view         view.View
	err          error // of View
	denied       error // of Ensure
	log          []view.Event
	logFrom      int64 // the oldest revision in log
	waiters      []chan struct{}
	mine         map[string]bool // registered through this agent
	config       map[string]bool // from the config file
	away         bool            // etcd does not answer
	progress     func()          // what etcd answers to a request for progress; nil: nothing
	reports      []string
	released     chan string
	lost         chan struct{} // ends holds
	forcedBy     string        // who ends them
	holders      map[string]Holder
	stored       func(context.Context) (api.WhyEtcd, error) // nil: etcd is away
	forced       error                                      // of Hold
	notReady     [2]error
	namesMissing error    // why ServiceNames may lack some
	namesErr     error    // of ServiceNames
	emptyNames   []string // of services of which etcd has nothing that the view shows
	stuck        error
}

func newFleet() *fleet {
	return &fleet{
		keys:     discovery.NewKeys("default"),
		view:     view.View{Snapshot: view.EmptySnapshot().WithEpoch("e1"), Age: 1500 * time.Millisecond},
		mine:     map[string]bool{},
		config:   map[string]bool{},
		released: make(chan string, 16),
		lost:     make(chan struct{}),
		holders:  map[string]Holder{},
	}
}

// web is an instance of web at 10.0.0.n:8080.
func web(n int, edit ...func(*discovery.Instance)) discovery.Instance {
	i := discovery.Instance{
		Service: "web", ID: fmt.Sprintf("web-%d", n), Node: "host-1", Address: fmt.Sprintf("10.0.0.%d", n), Port: 8080,
		Zone: "a", Weight: 1, Slots: 1, Tags: discovery.Tags{"v2"}, Status: discovery.Passing, Owner: "o1",
	}
	for _, f := range edit {
		f(&i)
	}
	return i
}

func withWebs(n int) *fleet {
	f := newFleet()
	for k := range n {
		f.put(web(k + 1))
	}
	return f
}

func (f *fleet) put(instances ...discovery.Instance) int64 {
	var changes []view.Change
	for _, i := range instances {
		changes = append(changes, f.change(f.keys.Instance(i.Service, i.ID), i.Encode()))
	}
	return f.apply(changes...)
}

func (f *fleet) putNode(n discovery.Node) int64 {
	b, err := json.Marshal(n)
	if err != nil {
		panic(err)
	}
	return f.apply(f.change(f.keys.Node(n.Node, n.Agent), b))
}

func (f *fleet) delete(service, id string) int64 {
	return f.apply(f.change(f.keys.Instance(service, id), nil))
}

func (f *fleet) change(key string, value []byte) view.Change {
	return view.Change{Key: f.keys.Parse(key), Value: value, Lease: 1}
}

// apply applies all changes at the next revision.
func (f *fleet) apply(changes ...view.Change) int64 {
	f.lock.Lock()
	defer f.lock.Unlock()
	revision := f.view.Revision() + 1
	for n := range changes {
		changes[n].Created, changes[n].Modified = revision, revision
	}
	next, events, broken := f.view.Snapshot.Apply(revision, changes)
	if len(broken) > 0 {
		panic(broken)
	}
	f.log = append(f.log, events...)
	f.view.Snapshot = next
	f.wake()
	return revision
}

// update changes the fleet in another way, and wakes the waiters.
func (f *fleet) update(edit func()) {
	f.lock.Lock()
	defer f.lock.Unlock()
	edit()
	f.wake()
}

func (f *fleet) wake() {
	for _, w := range f.waiters {
		close(w)
	}
	f.waiters = nil
}

func (f *fleet) View() (view.View, error) {
	f.lock.Lock()
	defer f.lock.Unlock()
	return f.view, f.err
}

// RequestProgress wakes nobody, as the progress of other services does not.
func (f *fleet) RequestProgress() {
	f.lock.Lock()
	defer f.lock.Unlock()
	if f.progress != nil {
		f.progress()
	}
}

// Changed wakes its readers at every change, which is more often than necessary.
func (f *fleet) Changed(string) <-chan struct{} {
	f.lock.Lock()
	defer f.lock.Unlock()
	w := make(chan struct{})
	f.waiters = append(f.waiters, w)
	return w
}

func (f *fleet) Events(_ string, after discovery.Cursor) ([]view.Event, bool) {
	f.lock.Lock()
	defer f.lock.Unlock()
	if after.Epoch != f.view.Snapshot.Epoch() || after.Revision < f.logFrom {
		return nil, false
	}
	n := slices.IndexFunc(f.log, func(e view.Event) bool { return e.Revision > after.Revision })
	if n < 0 {
		return nil, true
	}
	return slices.Clone(f.log[n:]), true
}

// Ensure reads nothing: everything that is not denied is in the view.
func (f *fleet) Ensure(context.Context, ...discovery.Scope) error {
	f.lock.Lock()
	defer f.lock.Unlock()
	return f.denied
}

// deny drops a service from the view, as where etcd forbids to read it.
func (f *fleet) deny(service string) {
	f.update(func() {
		f.view.Snapshot = f.view.Snapshot.Without(scopeOf(service))
		f.denied = discovery.Errorf(discovery.ErrUnavailable, "etcd denies permission")
	})
}

func (f *fleet) Retain(...discovery.Scope) func() { return func() {} }

func (f *fleet) NamesMissing() error { return f.namesMissing }

func (f *fleet) ServiceNames(context.Context) ([]string, error) {
	view, err := f.View()
	if err = cmp.Or(err, f.namesErr); err != nil {
		return nil, err
	}
	all := slices.Clone(f.emptyNames)
	for s := range view.Snapshot.Services() {
		if !s.Empty() {
			all = append(all, discovery.FoldName(s.Name))
		}
	}
	return all, nil
}

func (f *fleet) Register(_ context.Context, r discovery.Registration) (api.Registered, error) {
	r = r.WithDefaults("10.0.0.9", "a")
	if err := r.Validate(); err != nil {
		return api.Registered{}, err
	}
	i := r.Instance()
	i.Node, i.Owner = "host-1", "o1"
	current, err := f.View()
	if err != nil {
		return api.Registered{}, err
	}
	if service, ok := current.Snapshot.Service(r.Service); ok {
		if there, ok := service.Record(r.ID); ok && there.Owner != "o1" {
			return api.Registered{}, &discovery.ConflictError{Service: r.Service, ID: r.ID, Node: there.Node, Owner: there.Owner}
		}
	}
	f.lock.Lock()
	created := !f.mine[r.Service+"/"+r.ID]
	f.mine[r.Service+"/"+r.ID] = true
	away := f.away
	f.lock.Unlock()
	e := view.Entry{Instance: i, State: discovery.Up, Source: view.SourceAgent}
	if !away {
		e.Revision = f.put(i)
	}
	return api.Registered{Entry: e, Created: created, Written: !away}, nil
}

func (f *fleet) Report(_ context.Context, service, id, check string, report api.CheckReport) error {
	if !f.Owns(service, id) {
		return discovery.Errorf(discovery.ErrNotFound, "%s/%s is not registered through this agent", service, id)
	}
	f.update(func() {
		f.reports = append(f.reports, fmt.Sprintf("%s/%s %s %s %s", service, id, check, report.Status, report.Output))
	})
	return nil
}

func (f *fleet) Owns(service, id string) bool {
	f.lock.Lock()
	defer f.lock.Unlock()
	return f.mine[service+"/"+id]
}

func (f *fleet) Stored(ctx context.Context, _, _ string) (api.WhyEtcd, error) {
	if f.stored != nil {
		return f.stored(ctx)
	}
	return api.WhyEtcd{}, discovery.ErrUnavailable
}

func (f *fleet) Patch(_ context.Context, service, id string, patch []byte) (discovery.Override, int64, error) {
	e, err := f.entry(service, id)
	if err != nil {
		return discovery.Override{}, 0, err
	}
	var before discovery.Override
	if e.Override != nil {
		before = *e.Override
	}
	after, err := before.Patch(patch)
	if err != nil {
		return discovery.Override{}, 0, err
	}
	b, err := json.Marshal(after)
	if err != nil {
		return discovery.Override{}, 0, err
	}
	return after, f.apply(f.change(f.keys.Override(service, id), b)), nil
}

func (f *fleet) Delete(_ context.Context, service, id string) (int64, error) {
	e, err := f.entry(service, id)
	if err != nil {
		return 0, err
	}
	if e.Override == nil {
		return 0, discovery.Errorf(discovery.ErrNotFound, "%s/%s has no override", service, id)
	}
	return f.apply(f.change(f.keys.Override(service, id), nil)), nil
}

func (f *fleet) entry(service, id string) (*view.Entry, error) {
	view, err := f.View()
	if err != nil {
		return nil, err
	}
	if s, ok := view.Snapshot.Service(service); ok {
		if e, ok := s.Entry(id); ok {
			return e, nil
		}
	}
	return nil, discovery.Errorf(discovery.ErrNotFound, "%s/%s is not known", service, id)
}

func (f *fleet) Status(context.Context) api.Agent {
	return api.Agent{
		Version: "1", Node: "host-1", Namespace: "default", Owner: "o1", Run: "r1", Started: time.Unix(1, 0), Level: api.Level{Own: 2, Namespace: 1, Target: 2, RaisedWithin: discovery.Duration(time.Hour),
			Behind: []discovery.BehindAgent{{Node: "host-2", Agent: "o2", Level: 1, Seen: time.Unix(1, 0)}}, More: 1},
		Session: api.Session{State: api.SessionAlive, TTL: discovery.Duration(15 * time.Second)},
		Catalog: api.Catalog{Synced: true, Age: discovery.Duration(time.Second)},
		Registrations: []api.Registration{
			{Service: "web", ID: "web-1", Source: api.FromAPI, State: api.RegistrationWritten, Status: discovery.Passing},
		},
	}
}

func (f *fleet) Ready() (lookup, registered error) {
	f.lock.Lock()
	defer f.lock.Unlock()
	return f.notReady[0], f.notReady[1]
}

func (f *fleet) Alive() error {
	f.lock.Lock()
	defer f.lock.Unlock()
	return f.stuck
}

// absent answers no DNS, and has no lock and no claim.
type absent struct{}

func (absent) Exchange([]byte, int) ([]byte, time.Duration, error) {
	return nil, 0, discovery.ErrUnavailable
}

func (absent) JSON(string, string, bool) (api.DNSAnswer, time.Duration, error) {
	return api.DNSAnswer{}, 0, discovery.ErrUnavailable
}

func (absent) Lock(context.Context, string, api.LockOptions) (api.Lock, <-chan struct{}, error) {
	return api.Lock{}, nil, discovery.ErrUnavailable
}

func (absent) Renew(string, string) (api.Lock, error) { return api.Lock{}, discovery.ErrNotFound }

func (absent) Unlock(context.Context, string, string) (bool, error) { return false, nil }

func (absent) Queues(context.Context) (api.LockList, error) {
	return api.LockList{}, discovery.ErrUnavailable
}

func (absent) Queue(context.Context, string) (api.LockQueue, error) {
	return api.LockQueue{}, discovery.ErrNotFound
}

func (absent) Break(context.Context, string, api.BreakOptions, bool) (api.BrokenLock, error) {
	return api.BrokenLock{}, discovery.ErrNotFound
}

func (absent) Held(context.Context, string) (api.ClaimList, error) {
	return api.ClaimList{}, discovery.ErrUnavailable
}

func (absent) Claim(context.Context, string, api.ClaimOptions) (api.Claim, <-chan struct{}, error) {
	return api.Claim{}, nil, discovery.ErrUnavailable
}

func (absent) RenewClaim(string) (api.Claim, error) { return api.Claim{}, discovery.ErrNotFound }

func (absent) ReleaseClaim(context.Context, string) (bool, error) { return false, nil }

// backends returns the fleet as the backends that it is, and stubs for the others.
func (f *fleet) backends() Backends {
	return Backends{
		Catalog: f, Registrar: f, Overrides: f, Agent: f, DNS: absent{}, Envoy: envoy{}, KV: emptyKV{},
		Locks: absent{}, Claims: absent{}, Limits: newCounters(), Quarantines: &quarantines{}, Suspects: &suspectOrders{}, History: noHistory{},
	}
}

// api returns an API over the fleet, with some backends replaced.
func (f *fleet) api(t testing.TB, o Options, replace ...func(*Backends)) *API {
	t.Helper()
	b := f.backends()
	for _, r := range replace {
		r(&b)
	}
	a, err := New(b, o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// noHistory is the history of an agent that keeps none.
type noHistory struct{}

func (noHistory) Read(HistoryQuery) (api.History, error) {
	return api.History{}, discovery.ErrNotFound
}

func (noHistory) Changed() <-chan struct{} { return nil }
