package catalog

import (
	"testing"
	"time"

	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/reflector"
	"disc/discovery/retry/retrytest"
	"disc/discovery/view"
)

// The revision of a view moves on with writes to etcd that do not concern the namespace, without a
// new snapshot's content, and stays when etcd is gone.
func TestRevisionMovesOnWithoutChanges(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(*Catalog){
		"by itself": func(*Catalog) {},
		"asked":     (*Catalog).RequestProgress,
	} {
		t.Run(name, func(t *testing.T) {
			s := etcdtest.Start(t)
			f := start(t, s.Endpoint(), s.Endpoint(), Options{})
			f.register("web", "web-1")
			before := f.settled()
			other := f.put("elsewhere", "x")
			retrytest.Eventually(t, "the revision of a write elsewhere", func() bool {
				ask(f.Catalog)
				v, err := f.View()
				return err == nil && v.Revision() >= other
			})
			// To compare with etcd, where that did not answer the watch in time, moves the cursor on.
			if v, err := f.View(); err != nil || v.Snapshot.Cursor() != before.Cursor() && f.Health().Resyncs == 0 {
				t.Errorf("cursor %v, want %v; %v", v.Snapshot.Cursor(), before.Cursor(), err)
			}
		})
	}
}

// A confirmation raises the revision of a whole view only, up to which all scopes are complete.
func TestRevisionOfAnUpdate(t *testing.T) {
	scope := []reflector.Range{{From: "a", To: "b"}}
	for name, test := range map[string]struct {
		whole  bool
		update reflector.Update
		want   int64
	}{
		"nothing new":               {true, reflector.Update{}, 20},
		"a confirmation":            {true, reflector.Update{ConfirmedRevision: 25}, 25},
		"an earlier confirmation":   {true, reflector.Update{ConfirmedRevision: 15}, 20},
		"progress":                  {true, reflector.Update{Progress: 25}, 25},
		"progress of some scopes":   {true, reflector.Update{Progress: 25, Behind: scope}, 20},
		"a confirmation of a part":  {false, reflector.Update{ConfirmedRevision: 25}, 10},
		"progress of a part's view": {false, reflector.Update{Progress: 25}, 10},
	} {
		t.Run(name, func(t *testing.T) {
			c := etcdtest.Must(New(nil, keys, Options{}))
			now := &state{snapshot: mustApply(10), whole: test.whole, confirmed: time.Now()}
			if test.whole {
				now.complete = 20
			}
			c.state.Store(now)
			reflectorStore{c}.Apply(test.update)
			if v, err := c.View(); err != nil || v.Revision() != test.want {
				t.Errorf("revision %d, want %d; %v", v.Revision(), test.want, err)
			}
		})
	}
}

// A list after etcd started over begins a life, whose revisions are those from the list on.
func TestFirstRevisionOfALife(t *testing.T) {
	c := etcdtest.Must(New(nil, keys, Options{}))
	want := func(first, revision int64) {
		t.Helper()
		if v, err := c.View(); err != nil || v.First != first || v.Revision() != revision {
			t.Errorf("first %d, revision %d, want %d and %d; %v", v.First, v.Revision(), first, revision, err)
		}
	}
	c.publishScope(everything, mustApply(10), time.Now(), true)
	reflectorStore{c}.Apply(reflector.Update{Revision: 10, ConfirmedRevision: 30, Confirmed: time.Now()})
	want(10, 30)
	c.publishScope(everything, mustApply(5), time.Now(), true)
	want(5, 5)
	reflectorStore{c}.Apply(reflector.Update{Revision: 5, ConfirmedRevision: 7, Confirmed: time.Now()})
	c.publishNarrowed(view.EmptySnapshot(), nil)
	want(5, 7)
}
