package envoy

import (
	"fmt"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"disc/discovery"
	"disc/discovery/view"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fleet is a catalog in memory.
type fleet struct {
	lock    sync.Mutex
	keys    discovery.Keys
	view    view.View
	err     error
	changed map[string]chan struct{} // by service; "" is any
}

// newFleet returns a fleet with records, given as pairs: a key such as "web/instances/web-1",
// and the fields of the record besides its address 10.0.0.1.
func newFleet(t testing.TB, entries ...string) *fleet {
	f := &fleet{keys: discovery.NewKeys("default"), changed: map[string]chan struct{}{}, view: view.View{Snapshot: view.EmptySnapshot().WithEpoch("e1")}}
	for n := 0; n+1 < len(entries); n += 2 {
		f.put(t, entries[n], entries[n+1])
	}
	return f
}

func (f *fleet) put(t testing.TB, key, fields string) {
	t.Helper()
	k := f.keys.Parse(f.keys.Services() + key)
	record := fmt.Sprintf(`{"service":%q,"id":%q,"address":"10.0.0.1",%s}`, k.Service, k.ID, fields)
	if k.Kind == discovery.KeyOverride {
		record = "{" + fields + "}"
	}
	f.apply(t, view.Change{Key: k, Value: []byte(record)})
}

func (f *fleet) delete(t testing.TB, key string) {
	t.Helper()
	f.apply(t, view.Change{Key: f.keys.Parse(f.keys.Services() + key)})
}

// apply makes changes of one service at the next revision.
func (f *fleet) apply(t testing.TB, changes ...view.Change) {
	t.Helper()
	f.lock.Lock()
	defer f.lock.Unlock()
	revision := f.view.Snapshot.Revision() + 1
	for n := range changes {
		changes[n].Created, changes[n].Modified = revision, revision
	}
	next, _, broken := f.view.Snapshot.Apply(revision, changes)
	if len(broken) > 0 {
		t.Fatal(broken)
	}
	f.view.Snapshot = next
	f.wake(changes[0].Key.Service)
}

// fail makes View return an error; nil ends that.
func (f *fleet) fail(err error) {
	f.lock.Lock()
	defer f.lock.Unlock()
	f.err = err
	f.wake("")
}

// wake closes the channels of a service and of any; with "" all channels.
func (f *fleet) wake(service string) {
	for name, changed := range f.changed {
		if service == "" || name == "" || name == service {
			close(changed)
			delete(f.changed, name)
		}
	}
}

func (f *fleet) View() (view.View, error) {
	f.lock.Lock()
	defer f.lock.Unlock()
	return f.view, f.err
}

// Has reports that everything has been read.
func (f *fleet) Has(...discovery.Scope) bool { return true }

func (f *fleet) Retain(...discovery.Scope) func() { return func() {} }

func (f *fleet) Changed(service string) <-chan struct{} {
	f.lock.Lock()
	defer f.lock.Unlock()
	name := discovery.FoldName(service)
	if f.changed[name] == nil {
		f.changed[name] = make(chan struct{})
	}
	return f.changed[name]
}

func (f *fleet) snapshot() *view.Snapshot {
	f.lock.Lock()
	defer f.lock.Unlock()
	return f.view.Snapshot
}
